//! The netlink socket of a source: opened and set up, and sent configuration requests, in the same
//! way for a group and a queue.

use std::io::{self, Cursor};
use std::thread;
use std::time::{Duration, Instant};

use neli::ToBytes;
use neli::consts::nl::NlmF;
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;

use super::{Arrival, Waker};
use crate::netlink::message::answer;
use crate::netlink::request::{AttrResult, attrs, message};
use crate::sys::netlink as options;

/// How long a receive call waits before it gives the caller a chance to look around.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);
/// The same where the caller can be woken: it has nothing to look for.
const RECEIVE_TIMEOUT_LONG: Duration = Duration::from_secs(1);

/// How long the kernel's answer to a request is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// After so many receive calls that did not bring the answer, the request is sent again.
const ASK_AGAIN: usize = 64;
/// How often a request is sent that finds no memory, and how long is waited between.
const SEND_TRIES: u32 = 10;
const SEND_PAUSE: Duration = Duration::from_millis(5);

/// What could not be done, and what the system said.
pub(super) type Failed = (&'static str, io::Error);

/// Opens a socket in the calling thread's network namespace. Returns it and the receive buffer that
/// the kernel granted, in bytes.
pub(super) fn open(buffer_bytes: usize) -> Result<(NlSocket, usize), Failed> {
    let cannot = |what| move |error| (what, error);
    let socket = NlSocket::connect(NlFamily::Netfilter, None, Groups::empty())
        .map_err(cannot("open a netlink socket"))?;
    let fd = options::borrow(&socket);
    socket.block().map_err(cannot("make the socket wait"))?;
    options::set_no_enobufs(fd).map_err(cannot("set NETLINK_NO_ENOBUFS"))?;
    let granted_bytes =
        options::set_receive_buffer(fd, buffer_bytes).map_err(cannot("set the receive buffer"))?;
    options::set_receive_timeout(fd, RECEIVE_TIMEOUT).map_err(cannot("set the receive timeout"))?;
    Ok((socket, granted_bytes))
}

/// What ends a wait for packets early: a datagram to the socket's own port, which is nobody's packet.
/// `None` where the system lets this process send none; then the socket waits a tenth of a second,
/// else a second.
pub(super) fn waker(socket: &NlSocket) -> Option<Waker> {
    let port = options::port(options::borrow(socket)).ok()?;
    let sender = NlSocket::connect(NlFamily::Netfilter, None, Groups::empty()).ok()?;
    options::send_nothing_to(options::borrow(&sender), port).ok()?;
    options::set_receive_timeout(options::borrow(socket), RECEIVE_TIMEOUT_LONG).ok()?;
    Some(Box::new(move || {
        // Where there is no room for it, packets are there, and nobody waits.
        let _ = options::send_nothing_to(options::borrow(&sender), port);
    }))
}

/// A configuration request (`kind`) for group or queue `number`. Its answer has the same `sequence`.
pub(super) fn request<const N: usize>(
    kind: u16,
    flags: NlmF,
    sequence: u32,
    number: u16,
    settings: [AttrResult; N],
) -> io::Result<Vec<u8>> {
    let other = |error| io::Error::other(format!("{error}"));
    let settings = attrs(settings).map_err(other)?;
    let request = message(kind, flags, sequence, 0, number, settings).map_err(other)?;
    let mut bytes = Cursor::new(Vec::new());
    request
        .to_bytes(&mut bytes)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes.into_inner())
}

/// Sends a request, and looks for the kernel's answer in what `receive` finds, which is called
/// without waiting. True of that is: something came.
///
/// The kernel carries a request out and answers before `send` returns. So the answer stands behind
/// the packets that wait in the socket; where these leave no room for it, it is dropped, though what
/// was asked is done. Hence the socket is read on, and the request, which may be repeated, sent
/// again: that no answer comes says nothing.
pub(super) fn ask(
    mut send: impl FnMut() -> io::Result<()>,
    mut receive: impl FnMut(&mut Option<io::Result<()>>) -> io::Result<Arrival>,
) -> io::Result<()> {
    let deadline = Instant::now() + ANSWER_MAX;
    while Instant::now() < deadline {
        send()?;
        for _ in 0..ASK_AGAIN {
            let mut answer = None;
            let arrival = receive(&mut answer)?;
            if let Some(answer) = answer {
                return answer;
            }
            if arrival == Arrival::Nothing {
                thread::sleep(SEND_PAUSE);
                break;
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "the kernel does not acknowledge the configuration: whether it holds is not known",
    ))
}

/// Sends a request.
pub(super) fn send(socket: &NlSocket, request: &[u8]) -> io::Result<()> {
    let mut tries = SEND_TRIES;
    loop {
        match socket.send(request, Msg::empty()) {
            Err(error) if tries > 1 && passes(&error) => {
                tries -= 1;
                thread::sleep(SEND_PAUSE);
            }
            sent => return sent.map(drop),
        }
    }
}

/// Whether an error of sending goes away by itself: no memory, no room, a signal.
#[cold]
pub(super) fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EINTR)
    )
}

/// The kernel's answer to the request of this number, if it is in `datagram`.
pub(super) fn answered(datagram: &[u8], sequence: u32) -> Option<io::Result<()>> {
    match answer(datagram)? {
        (to, _) if to != sequence => None,
        (_, 0) => Some(Ok(())),
        (_, errno) => Some(Err(io::Error::from_raw_os_error(errno))),
    }
}

//! The netlink socket of a source: opened and set up, and sent configuration requests, in the same
//! way for a group and a queue.

use std::io::{self, Cursor};
use std::thread;
use std::time::Duration;

use neli::ToBytes;
use neli::consts::nl::NlmF;
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;

use super::Waker;
use crate::netlink::message::answer;
use crate::netlink::request::{AttrResult, attrs, message};
use crate::sys::netlink as options;

/// How long a receive call waits before it gives the caller a chance to look around.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);
/// The same where the caller can be woken: it has nothing to look for.
const RECEIVE_TIMEOUT_LONG: Duration = Duration::from_secs(1);

/// How many receive calls the kernel's answer may take: packets may have come before it.
pub(super) const ANSWER_TRIES: usize = 100;
/// How often a request is sent that finds no memory, and how long is waited between.
const SEND_TRIES: u32 = 10;
const SEND_PAUSE: Duration = Duration::from_millis(5);
/// The sequence number of every request.
const SEQUENCE: u32 = 1;

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

/// Sends a configuration request (`kind`) for group or queue `number`.
pub(super) fn configure<const N: usize>(
    socket: &NlSocket,
    kind: u16,
    flags: NlmF,
    number: u16,
    settings: [AttrResult; N],
) -> io::Result<()> {
    let other = |error| io::Error::other(format!("{error}"));
    let settings = attrs(settings).map_err(other)?;
    let request = message(kind, flags, SEQUENCE, 0, number, settings).map_err(other)?;
    let mut bytes = Cursor::new(Vec::new());
    request
        .to_bytes(&mut bytes)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut tries = SEND_TRIES;
    loop {
        match socket.send(bytes.get_ref(), Msg::empty()) {
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

/// The kernel's answer to a request, if it is in `datagram`.
pub(super) fn answered(datagram: &[u8]) -> Option<io::Result<()>> {
    match answer(datagram)? {
        (SEQUENCE, 0) => Some(Ok(())),
        (SEQUENCE, errno) => Some(Err(io::Error::from_raw_os_error(errno))),
        _ => None,
    }
}

/// The error where [`ANSWER_TRIES`] calls brought no answer.
pub(super) fn unanswered() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the kernel did not acknowledge the configuration",
    )
}

//! Receives the messages of one NFLOG group, counts them, and does nothing else.

use crate::say::say;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send};
use rustix::net::{socket_with, sockopt};

const HEADER_LEN: usize = 16;
/// NFNL_SUBSYS_ULOG << 8, and the messages of it.
const MESSAGE_PACKET: u16 = 0x0400;
const MESSAGE_CONFIG: u16 = 0x0401;
const MESSAGE_ERROR: u16 = 2;
const REQUEST_WITH_ACK: u16 = 1 | 4;
/// NFULA_CFG_*, NFULNL_COPY_* and NFULNL_CFG_CMD_BIND.
const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_NLBUFSIZ: u16 = 3;
const CFG_TIMEOUT: u16 = 4;
const CFG_QTHRESH: u16 = 5;
const CFG_FLAGS: u16 = 6;
const CMD_BIND: u8 = 1;
const COPY_META: u8 = 1;
const COPY_PACKET: u8 = 2;
const FLAG_SEQUENCE: u16 = 1;

/// The kernel rounds the 128 KiB it allocates for a message up: twice that is always enough.
const BUFFER_LEN: usize = 512 * 1024;

pub(crate) fn run(group: u16, copy: u32) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    let socket = open(group, copy).with_context(|| format!("cannot bind group {group}"))?;
    let mut buffer = vec![0; BUFFER_LEN];
    let (mut messages, mut calls, mut overruns) = (0u64, 0u64, 0u64);
    while !stop.load(Ordering::Relaxed) {
        match recv(&socket, &mut buffer, RecvFlags::TRUNC).map(|(_, len)| len) {
            Ok(len) => {
                let datagram = buffer
                    .get(..len)
                    .context("a datagram was longer than the buffer")?;
                messages += count(datagram);
                calls += 1;
            }
            Err(error) => match io::Error::from(error) {
                error if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    overruns += 1;
                }
                error if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                }
                error => return Err(error).context("cannot receive"),
            },
        }
    }
    say!("{messages} messages received in {calls} calls, {overruns} overruns");
    Ok(())
}

fn open(group: u16, copy: u32) -> Result<OwnedFd> {
    const RECEIVE_BUFFER: usize = 64 << 20;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(NETFILTER),
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    // Beyond the system's limit only for root outside user namespaces.
    sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER))?;
    sockopt::set_socket_timeout(
        &socket,
        sockopt::Timeout::Recv,
        Some(Duration::from_millis(200)),
    )?;
    let mode = if copy == 0 { COPY_META } else { COPY_PACKET };
    let mode = [&copy.to_be_bytes()[..], &[mode, 0]].concat();
    let settings: [(u16, &[u8]); 6] = [
        (CFG_CMD, &[CMD_BIND]),
        (CFG_MODE, &mode),
        (CFG_NLBUFSIZ, &131_072u32.to_be_bytes()),
        (CFG_TIMEOUT, &10u32.to_be_bytes()),
        (CFG_QTHRESH, &1024u32.to_be_bytes()),
        (CFG_FLAGS, &FLAG_SEQUENCE.to_be_bytes()),
    ];
    for (kind, value) in settings {
        configure(&socket, group, kind, value)?;
    }
    Ok(socket)
}

/// Sends one setting and waits for the kernel's answer.
fn configure(socket: &OwnedFd, group: u16, kind: u16, value: &[u8]) -> Result<()> {
    let attribute_len = u16::try_from(4 + value.len())?;
    let mut request = vec![0; HEADER_LEN];
    request.extend([0, 0]); // any address family, version 0
    request.extend(group.to_be_bytes());
    request.extend(attribute_len.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(value);
    request.resize(request.len().next_multiple_of(4), 0);
    let len = u32::try_from(request.len())?;
    request[..4].copy_from_slice(&len.to_ne_bytes());
    request[4..6].copy_from_slice(&MESSAGE_CONFIG.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST_WITH_ACK.to_ne_bytes());
    send(socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let (_, len) = recv(socket, &mut buffer, RecvFlags::empty())?;
        let answer = &buffer[..len.min(BUFFER_LEN)];
        if half_word(answer, 4) == Some(MESSAGE_ERROR) {
            let code = answer
                .get(HEADER_LEN..HEADER_LEN + 4)
                .context("a short answer")?;
            match i32::from_ne_bytes(code.try_into()?) {
                0 => return Ok(()),
                code => bail!("{}", io::Error::from_raw_os_error(-code)),
            }
        }
        // Packets may come before the answer.
    }
}

/// How many packets one datagram carries.
fn count(mut datagram: &[u8]) -> u64 {
    let mut packets = 0;
    while let Some(len) = datagram
        .first_chunk()
        .map(|bytes| u32::from_ne_bytes(*bytes))
    {
        packets += u64::from(half_word(datagram, 4) == Some(MESSAGE_PACKET));
        let len = usize::try_from(len).unwrap_or(usize::MAX).max(HEADER_LEN);
        match datagram.get(len.checked_next_multiple_of(4).unwrap_or(usize::MAX)..) {
            Some(rest) => datagram = rest,
            None => break,
        }
    }
    packets
}

fn half_word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_and_nonsense_ends() {
        let message = |len: u32, kind: u16| {
            let mut bytes = vec![0; 20];
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes
        };
        let datagram = [
            message(18, MESSAGE_PACKET),
            message(20, MESSAGE_PACKET),
            message(20, 3),
        ]
        .concat();
        assert_eq!(count(&datagram), 2);
        assert_eq!(count(&message(0, MESSAGE_PACKET)), 1);
        assert_eq!(count(&message(u32::MAX, MESSAGE_PACKET)), 1);
        assert_eq!(count(&[1, 2, 3]), 0);
    }
}

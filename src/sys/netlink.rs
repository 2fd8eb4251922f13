//! Receiving from a netlink socket, and the socket options that `neli` does not set.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What one receive call brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the datagram; more than the buffer has if it was truncated.
    pub bytes: usize,
    /// The sender's port id: 0 is the kernel.
    pub port: u32,
}

/// Receives one datagram. With `MSG_TRUNC` its true length is returned, so that a truncation shows.
///
/// # Errors
/// What `recvfrom(2)` answers: `WouldBlock` after the socket's receive timeout, `EINTR`, `ENOBUFS`.
#[inline]
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> io::Result<Received> {
    // SAFETY: an all-zero sockaddr_nl is a valid one.
    let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut from_len = len_of::<libc::sockaddr_nl>();
    let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the buffer is writable over its length, `from` over `from_len` bytes, and both
    // outlive the call.
    let got = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
            (&raw mut from).cast(),
            &raw mut from_len,
        )
    };
    match usize::try_from(got) {
        Ok(bytes) => Ok(Received {
            bytes,
            port: from.nl_pid,
        }),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// The port id of a netlink socket.
///
/// # Errors
/// What `getsockname(2)` answers.
pub fn port(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: an all-zero sockaddr_nl is a valid one.
    let mut name: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut len = len_of::<libc::sockaddr_nl>();
    // SAFETY: `name` is writable over `len` bytes, and both outlive the call.
    let done =
        unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut name).cast(), &raw mut len) };
    match done {
        0 => Ok(name.nl_pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a message that says nothing (`NLMSG_NOOP`) to a netlink socket of this machine, without
/// waiting for room. The kernel lets `CAP_NET_ADMIN` do so.
///
/// # Errors
/// What `sendto(2)` answers.
pub fn send_nothing_to(socket: BorrowedFd<'_>, port: u32) -> io::Result<()> {
    const BYTES: u32 = 16; // struct nlmsghdr
    const NLMSG_NOOP: u16 = 1;
    let mut message = [0u8; BYTES as usize];
    message[..4].copy_from_slice(&BYTES.to_ne_bytes());
    message[4..6].copy_from_slice(&NLMSG_NOOP.to_ne_bytes());
    // SAFETY: an all-zero sockaddr_nl is a valid one.
    let mut to: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    to.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    to.nl_pid = port;
    // SAFETY: message and address are readable over the lengths given, and outlive the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            libc::MSG_DONTWAIT,
            (&raw const to).cast(),
            len_of::<libc::sockaddr_nl>(),
        )
    };
    match usize::try_from(sent) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Sets the receive buffer, over `net.core.rmem_max` where the caller may (`SO_RCVBUFFORCE` needs
/// `CAP_NET_ADMIN`), and returns the bytes the kernel granted.
///
/// # Errors
/// What `setsockopt(2)` answers.
pub fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    // The kernel doubles the value for its own bookkeeping and means the double to be the limit.
    let half = i32::try_from(bytes / 2).unwrap_or(i32::MAX / 2);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, half)
        .or_else(|_| set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, half))?;
    receive_buffer(socket)
}

/// The receive buffer that the kernel has granted, in bytes.
///
/// # Errors
/// What `getsockopt(2)` answers.
pub fn receive_buffer(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let granted: i32 = get_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF)?;
    Ok(usize::try_from(granted).unwrap_or(0))
}

/// After how long a receive call that waits gives up with `WouldBlock`.
///
/// # Errors
/// What `setsockopt(2)` answers.
pub fn set_receive_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    // How wide the fields are depends on the machine. What is too long for one is for ever, which 0
    // means.
    let micros = u64::from(timeout.subsec_micros());
    let value = libc::timeval {
        tv_sec: timeout.as_secs().try_into().unwrap_or_default(),
        tv_usec: micros.try_into().unwrap_or_default(),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value)
}

/// `NETLINK_NO_ENOBUFS`: a full buffer then loses just what does not fit. Without it the kernel
/// refuses everything until the buffer has been read empty (`NETLINK_S_CONGESTED`).
///
/// # Errors
/// What `setsockopt(2)` answers.
pub fn set_no_enobufs(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 1i32)
}

/// Has the kernel stamp packets as they arrive, as long as the socket is open: without a socket
/// that asks, those that come in without a time stamp keep none. (On a netlink socket
/// `SO_TIMESTAMP` does nothing else.)
///
/// # Errors
/// What `setsockopt(2)` answers.
pub fn set_timestamps(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMP, 1i32)
}

/// Datagrams this socket lost to a full buffer since it was opened (`SO_MEMINFO`,
/// `SK_MEMINFO_DROPS`).
///
/// # Errors
/// What `getsockopt(2)` answers.
pub fn dropped_datagrams(socket: BorrowedFd<'_>) -> io::Result<u32> {
    memory(socket).map(|memory| memory.dropped_datagrams)
}

/// A socket's receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that wait in it.
    pub waiting_bytes: u32,
    /// Datagrams that it had no room for since the socket was opened.
    pub dropped_datagrams: u32,
}

/// What a socket's receive buffer holds, and has not held (`SO_MEMINFO`).
///
/// # Errors
/// What `getsockopt(2)` answers.
pub fn memory(socket: BorrowedFd<'_>) -> io::Result<Memory> {
    // linux/sock_diag.h
    const SK_MEMINFO_RMEM_ALLOC: usize = 0;
    const SK_MEMINFO_DROPS: usize = 8;
    let info: [u32; SK_MEMINFO_DROPS + 1] = get_option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    Ok(Memory {
        waiting_bytes: info[SK_MEMINFO_RMEM_ALLOC],
        dropped_datagrams: info[SK_MEMINFO_DROPS],
    })
}

/// The descriptor of a socket of `neli`'s, for the calls of this file.
#[inline]
pub fn borrow(socket: &neli::socket::NlSocket) -> BorrowedFd<'_> {
    // SAFETY: the socket keeps its descriptor open, and the borrow cannot outlive the socket.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// Plain values that socket options take.
///
/// # Safety
/// Any bit pattern is a valid value of the type, and it has no padding.
pub unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for i32 {}
// SAFETY: two integers of the same size.
unsafe impl Plain for libc::timeval {}
// SAFETY: integers, which an array has without padding.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u64; N] {}

/// Sets a socket option.
///
/// # Errors
/// What `setsockopt(2)` answers.
pub fn set_option<T: Plain>(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: T,
) -> io::Result<()> {
    // SAFETY: the value is readable over the length given, for the length of the call.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            len_of::<T>(),
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads a socket option.
///
/// # Errors
/// What `getsockopt(2)` answers.
pub fn get_option<T: Plain>(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    // SAFETY: a `Plain` value may have any bits, zeros among them.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = len_of::<T>();
    // SAFETY: the value is writable over `len` bytes, for the length of the call; the kernel writes
    // no more.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if failed == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The size of a value, as the socket calls want it.
pub fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// The index of an interface in the calling thread's network namespace.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn interface_index(name: &str) -> io::Result<i32> {
    let name = CString::new(name).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a live string that ends in NUL, and is only read.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(index).map_err(io::Error::other)
}

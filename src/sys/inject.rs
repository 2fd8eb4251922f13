//! Sending link-layer frames past the queueing discipline, many in one system call.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::netlink::{interface_index, len_of, set_option};

/// How many frames one call to [`FrameSocket::send`] hands to the kernel at most.
pub const BATCH: usize = 64;

/// A packet socket that sends on one interface and receives nothing.
#[derive(Debug)]
pub struct FrameSocket {
    fd: OwnedFd,
}

impl FrameSocket {
    /// Opens a socket bound to `interface`, in the network namespace of the calling thread.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = interface_index(interface)?;
        // SAFETY: `socket` takes three numbers. Protocol 0 asks for no packet to be received.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a descriptor that was just opened, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };

        // SAFETY: `sockaddr_ll` holds integers only, for which all bits zero is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
        address.sll_family = libc::c_ushort::try_from(libc::AF_PACKET).unwrap_or_default();
        address.sll_ifindex = index;
        // SAFETY: the pointer is to a live `sockaddr_ll`, the length is its size, and `bind` only
        // reads it.
        let result = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                len_of::<libc::sockaddr_ll>(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        set_option(
            fd.as_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            1i32,
        )?;
        Ok(Self { fd })
    }

    /// Sends the first [`BATCH`] of `frames` and says how many the kernel accepted.
    ///
    /// Fails only when not even the first was accepted.
    pub fn send(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = frames.len().min(BATCH);
        // SAFETY: `mmsghdr` holds integers and pointers, for which all bits zero is a valid value.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { MaybeUninit::zeroed().assume_init() };
        for (message, frame) in messages.iter_mut().zip(frames) {
            // `IoSlice` is guaranteed to be laid out as `iovec`; the kernel only reads through it.
            message.msg_hdr.msg_iov = std::ptr::from_ref(frame).cast_mut().cast();
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` messages are initialized, each with one iovec that borrows a
        // live slice for longer than this call; `count` is at most the length of `messages`. The
        // kernel writes `msg_len` only, into memory that is ours.
        let sent = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                libc::c_uint::try_from(count).unwrap_or_default(),
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

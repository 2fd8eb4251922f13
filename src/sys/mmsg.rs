//! Many datagrams of a netlink socket in one call: `recvmmsg(2)`.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::buffer::Buffer;

/// Datagrams that one call receives at the most.
pub const BATCH: usize = 64;

/// Room for [`BATCH`] datagrams, and those that the last call brought.
///
/// The descriptions that the kernel wants (addresses into this room) are made for each call and
/// forgotten after it: nothing here points to itself, and it moves between threads freely.
#[derive(Debug)]
pub struct Datagrams {
    room: Buffer,
    slot_bytes: usize,
    lens: Vec<usize>,
    filled: usize,
    truncated: u64,
}

impl Datagrams {
    /// Room for datagrams of up to `slot_bytes` bytes (at least one).
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(slot_bytes: usize) -> io::Result<Self> {
        let slot_bytes = slot_bytes.max(1);
        Ok(Datagrams {
            room: Buffer::new(slot_bytes * BATCH)?,
            slot_bytes,
            lens: vec![0; BATCH],
            filled: 0,
            truncated: 0,
        })
    }

    /// The longest datagram there is room for.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Receives what is there, and with `wait` waits for the first datagram, as long as the
    /// socket's receive timeout. What the last call brought is gone. Returns how many came.
    ///
    /// A datagram that does not come from the kernel (any process with the right may send to a
    /// netlink socket) is as good as empty.
    ///
    /// # Errors
    /// What `recvmmsg(2)` answers: `WouldBlock`, `EINTR`, `ENOBUFS`.
    #[inline]
    pub fn receive(&mut self, socket: BorrowedFd<'_>, wait: bool) -> io::Result<usize> {
        self.filled = 0;
        // SAFETY: integers and null pointers, all zero, are valid values of these C structures.
        let mut names: [libc::sockaddr_nl; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut pieces: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let slots = self.room.chunks_exact_mut(self.slot_bytes);
        for (((header, piece), name), slot) in headers
            .iter_mut()
            .zip(&mut pieces)
            .zip(&mut names)
            .zip(slots)
        {
            piece.iov_base = slot.as_mut_ptr().cast();
            piece.iov_len = slot.len();
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = NAME_BYTES;
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
        }
        let flags = if wait {
            libc::MSG_WAITFORONE
        } else {
            libc::MSG_DONTWAIT
        };
        #[expect(clippy::cast_possible_truncation, reason = "64")]
        let count = BATCH as libc::c_uint;
        // SAFETY: `headers` has `count` elements. Each one's name is writable over `msg_namelen`
        // bytes and its only piece over `iov_len` bytes; names and pieces do not overlap, nothing
        // else refers to them, and all outlive the call. No timeout is given.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(got) = usize::try_from(got) else {
            return Err(io::Error::last_os_error());
        };
        for ((len, header), name) in self.lens.iter_mut().zip(&headers).zip(&names).take(got) {
            let from_kernel = header.msg_hdr.msg_namelen == NAME_BYTES && name.nl_pid == 0;
            *len = if from_kernel {
                (header.msg_len as usize).min(self.slot_bytes)
            } else {
                0
            };
            self.truncated += u64::from(header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0);
        }
        self.filled = got.min(BATCH);
        Ok(self.filled)
    }

    /// How many the last call brought.
    #[inline]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether it brought none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether the last call brought as many as there is room for: there may be more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// What the last call brought, in order.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            lens: self.lens[..self.filled].iter(),
            slots: self.room.chunks_exact(self.slot_bytes),
        }
    }

    /// Puts datagrams back, as if a call had brought them: as many as there is room for. Those left
    /// are returned.
    pub fn put_back(&mut self, datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut rest = datagrams.into_iter();
        self.filled = 0;
        for (len, slot) in self
            .lens
            .iter_mut()
            .zip(self.room.chunks_exact_mut(self.slot_bytes))
        {
            let Some(datagram) = rest.next() else { break };
            *len = datagram.len().min(slot.len());
            slot[..*len].copy_from_slice(&datagram[..*len]);
            self.filled += 1;
        }
        rest.collect()
    }

    /// Datagrams that did not fit their slot, since the beginning.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }
}

/// The datagrams of one call, in order.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    lens: std::slice::Iter<'a, usize>,
    slots: std::slice::ChunksExact<'a, u8>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let len = *self.lens.next()?;
        self.slots.next()?.get(..len)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "12")]
const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_nl>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has none of the system calls")]
    fn a_stranger_s_datagrams_are_empty_and_cuts_are_counted() {
        let (a, b) = UnixDatagram::pair().unwrap();
        for text in ["one", "a long one"] {
            a.send(text.as_bytes()).unwrap();
        }
        let mut datagrams = Datagrams::new(5).unwrap();
        assert_eq!(datagrams.receive(b.as_fd(), true).unwrap(), 2);
        // A unix socket has no port id 0: none of this is the kernel's word.
        assert!(datagrams.iter().all(<[u8]>::is_empty));
        assert_eq!(datagrams.truncated(), 1);
        let error = datagrams.receive(b.as_fd(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(datagrams.iter().count(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has none of the system calls")]
    fn what_is_put_back_comes_first() {
        let mut datagrams = Datagrams::new(2).unwrap();
        let many: Vec<Vec<u8>> = (0..BATCH + 2)
            .map(|n| vec![u8::try_from(n).unwrap(); 2])
            .collect();
        let rest = datagrams.put_back(many.clone());
        assert_eq!(
            datagrams.iter().collect::<Vec<_>>(),
            many[..BATCH].iter().collect::<Vec<_>>()
        );
        assert_eq!(rest, many[BATCH..]);
        assert!(datagrams.put_back(rest).is_empty());
        assert_eq!(datagrams.iter().count(), 2);
    }
}

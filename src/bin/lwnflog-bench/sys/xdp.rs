//! An AF_XDP socket in copy mode (`af_xdp.rst`), and the XDP program that feeds it, for the
//! benchmark's own reader.
//!
//! Frames live in chunks of one memory area. We lend chunks to the kernel by the fill ring; it
//! hands them back, filled, by the receive ring; [`XdpSocket::advance`] lends them again.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libc::{xdp_desc, xdp_mmap_offsets, xdp_ring_offset, xdp_umem_reg};
use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::bpf::{self, Mode, QUEUE};
use super::packet_ring::wait;
use lwnflog::sys::netlink::interface_index;
use lwnflog::sys::netlink::{Plain, get_option, len_of, set_option};

/// Bytes of a chunk: the kernel keeps 256 for itself, so frames of up to 1792 bytes are taken.
const CHUNK_BYTES: u32 = 2048;
/// Chunks, and places in either ring: 64 MiB, as much as the other tools get.
const CHUNKS: u32 = 32_768;
/// Frames taken at a time at the most.
const BATCH: u32 = 1024;
const XDP_STATISTICS_WORDS: usize = 6;

/// The kernel's structure, for a socket option.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Memory(xdp_umem_reg);
// SAFETY: two integers of 8 bytes, then four of 4.
unsafe impl Plain for Memory {}

/// The kernel's structure, for a socket option.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Offsets(xdp_mmap_offsets);
// SAFETY: 16 integers of 8 bytes.
unsafe impl Plain for Offsets {}

/// One ring, shared with the kernel: indices that run on, and `CHUNKS` places.
#[derive(Debug)]
struct SharedRing {
    map: MmapRaw,
    producer_at: usize,
    consumer_at: usize,
    places_at: usize,
}

impl SharedRing {
    /// Maps a ring whose places have `place_bytes` each.
    fn new(
        fd: &OwnedFd,
        offset: u64,
        layout: &xdp_ring_offset,
        place_bytes: usize,
    ) -> io::Result<SharedRing> {
        let at = |offset: u64| usize::try_from(offset).map_err(io::Error::other);
        let places_at = at(layout.desc)?;
        let len = places_at + CHUNKS as usize * place_bytes;
        Ok(SharedRing {
            map: MmapOptions::new().len(len).offset(offset).map_raw(fd)?,
            producer_at: at(layout.producer)?,
            consumer_at: at(layout.consumer)?,
            places_at,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        self.index(self.producer_at)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.index(self.consumer_at)
    }

    fn index(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is where the kernel said that an index of this ring stands: a 4-byte aligned
        // word within the mapping, which `self` keeps alive, and which both sides access as a
        // whole.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().wrapping_add(at).cast()) }
    }

    /// The address of a place. `T` must be the type that the ring was made for.
    fn place<T>(&self, number: u32) -> *mut T {
        let at = self.places_at + (number % CHUNKS) as usize * size_of::<T>();
        self.map.as_mut_ptr().wrapping_add(at).cast()
    }
}

/// A socket that gets all frames of one interface's queue, and the program that sends them there:
/// they do not reach the IP layer.
#[derive(Debug)]
pub(crate) struct XdpSocket {
    /// The program's tie to the interface; without it no frames come.
    link: Option<OwnedFd>,
    fd: OwnedFd,
    memory: MmapRaw,
    receive: SharedRing,
    fill: SharedRing,
    /// The first frame that is held, as the receive ring counts.
    first: u32,
    held: u32,
    interface: u32,
    mode: Mode,
}

impl XdpSocket {
    /// Takes what comes in on `interface`.
    ///
    /// # Errors
    /// What the system says: `EPERM` for all but root of the first user namespace.
    pub(crate) fn open(interface: &str) -> io::Result<XdpSocket> {
        let index = u32::try_from(interface_index(interface)?).map_err(io::Error::other)?;
        // SAFETY: `socket` takes three numbers.
        let raw = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a descriptor that was just opened, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let memory: MmapRaw = MmapMut::map_anon((CHUNKS * CHUNK_BYTES) as usize)?.into();
        // The kernel may write to this memory from now on. It holds its pages until the socket is
        // closed, and nobody reads a chunk here but by `frame`.
        let area = xdp_umem_reg {
            addr: memory.as_ptr() as u64,
            len: memory.len() as u64,
            chunk_size: CHUNK_BYTES,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let places = CHUNKS.cast_signed();
        set_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, Memory(area))?;
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
        ] {
            set_option(fd.as_fd(), libc::SOL_XDP, ring, places)?;
        }
        let Offsets(layout) = get_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
        const RECEIVE_OFFSET: u64 = 0; // XDP_PGOFF_RX_RING
        let mut socket = XdpSocket {
            link: None,
            receive: SharedRing::new(&fd, RECEIVE_OFFSET, &layout.rx, size_of::<xdp_desc>())?,
            fill: SharedRing::new(
                &fd,
                libc::XDP_UMEM_PGOFF_FILL_RING,
                &layout.fr,
                size_of::<u64>(),
            )?,
            fd,
            memory,
            first: 0,
            held: 0,
            interface: index,
            mode: Mode::Driver,
        };
        socket.lend((0..CHUNKS).map(|chunk| u64::from(chunk) * u64::from(CHUNK_BYTES)));
        socket.bind()?;
        let program = bpf::redirect_to(&socket.fd)?;
        let link = bpf::attach(&program, index, Mode::Driver).or_else(|_| {
            socket.mode = Mode::Generic;
            bpf::attach(&program, index, Mode::Generic)
        })?;
        socket.link = Some(link);
        Ok(socket)
    }

    fn bind(&self) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: u16::try_from(libc::AF_XDP).unwrap_or_default(),
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: self.interface,
            sxdp_queue_id: QUEUE,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: the pointer is to a live `sockaddr_xdp`, the length is its size, and `bind` only
        // reads it.
        let failed = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                len_of::<libc::sockaddr_xdp>(),
            )
        };
        if failed == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The index of its interface.
    pub(crate) fn interface(&self) -> u32 {
        self.interface
    }

    /// Where the program runs.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Lends the chunks back whose frames are held, and takes the next frames; says how many.
    #[inline]
    pub(crate) fn advance(&mut self) -> u32 {
        if self.held != 0 {
            let held = self.first..self.first.wrapping_add(self.held);
            let mut number = held.start;
            self.lend(std::iter::from_fn(|| {
                (number != held.end).then(|| {
                    let desc = self.desc(number);
                    number = number.wrapping_add(1);
                    desc.addr
                })
            }));
            self.first = held.end;
            self.held = 0;
            let consumer = self.receive.consumer();
            consumer.store(self.first, Ordering::Release);
        }
        let filled = self.receive.producer().load(Ordering::Acquire);
        self.held = filled.wrapping_sub(self.first).min(BATCH);
        self.held
    }

    /// Frames held.
    #[inline]
    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    /// A frame of those held, counted from 0.
    #[inline]
    pub(crate) fn frame(&self, number: u32) -> Option<&[u8]> {
        if number >= self.held {
            return None;
        }
        let desc = self.desc(self.first.wrapping_add(number));
        let start = usize::try_from(desc.addr).ok()?;
        let len = desc.len as usize;
        if start.checked_add(len)? > self.memory.len() {
            return None;
        }
        // SAFETY: the range lies in the memory, which `self` keeps alive. The chunk is ours: the
        // kernel does not write to it before `advance` lends it again, which needs `&mut self` and
        // so the end of this borrow. Bytes have no invalid values.
        let frame =
            unsafe { std::slice::from_raw_parts(self.memory.as_ptr().wrapping_add(start), len) };
        Some(frame)
    }

    /// A place of the receive ring that is ours.
    #[inline]
    fn desc(&self, number: u32) -> xdp_desc {
        // SAFETY: the place lies in the mapping (`place` takes the rest) and is aligned; the kernel
        // wrote it before the producer index that was read with acquire order, and writes it again
        // only when the consumer index has passed it.
        unsafe { self.receive.place::<xdp_desc>(number).read() }
    }

    /// Lends chunks to the kernel. There are as many places as chunks: the ring is never full.
    #[inline]
    fn lend(&self, chunks: impl Iterator<Item = u64>) {
        let mut number = self.fill.producer().load(Ordering::Relaxed);
        for chunk in chunks {
            // SAFETY: the place lies in the mapping (`place` takes the rest) and is aligned; the
            // kernel reads it only when the producer index has passed it.
            unsafe { self.fill.place::<u64>(number).write(chunk) };
            number = number.wrapping_add(1);
        }
        self.fill.producer().store(number, Ordering::Release);
    }

    /// Waits until frames may be there.
    ///
    /// # Errors
    /// What `poll(2)` answers, but for `EINTR`.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<()> {
        wait(self.fd.as_fd(), limit)
    }

    /// Takes the program from the interface: no frames come any more.
    pub(crate) fn stop(&mut self) {
        const UNDER_WAY: Duration = Duration::from_millis(20);
        self.link = None;
        std::thread::sleep(UNDER_WAY);
    }

    /// Frames lost since it was opened: there was no chunk, or no place in the ring.
    ///
    /// # Errors
    /// What `getsockopt(2)` answers.
    pub(crate) fn drops(&self) -> io::Result<u64> {
        // struct xdp_statistics: rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, ...
        let [dropped, _, _, ring_full, ..]: [u64; XDP_STATISTICS_WORDS] =
            get_option(self.fd.as_fd(), libc::SOL_XDP, libc::XDP_STATISTICS)?;
        Ok(dropped + ring_full)
    }
}

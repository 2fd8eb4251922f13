//! A packet socket's receive ring, TPACKET_V3 (`packet_mmap.rst`), for the benchmark's own reader.
//!
//! The kernel fills a block, then gives it to us by a flag in it; we give it back by the same flag.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

use lwnflog::sys::netlink::interface_index;
use lwnflog::sys::netlink::{Plain, get_option, len_of, set_option};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Blocks of the ring: 64 MiB, as much as the other tools get.
const BLOCKS: usize = 64;
/// After how long the kernel hands a block over that is not full.
pub(crate) const BLOCK_TIMEOUT: Duration = Duration::from_millis(60);
/// `struct tpacket_block_desc`: where `hdr.bh1.block_status` stands.
const STATUS_AT: usize = 8;

/// Of `linux/if_packet.h` and `linux/if_ether.h`, where the crate `libc` has it not for every C
/// library.
const PACKET_RX_RING: i32 = 5;
const PACKET_STATISTICS: i32 = 6;
const PACKET_VERSION: i32 = 10;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const TPACKET_V3: i32 = 2;
const TP_STATUS_KERNEL: u32 = 0;
const TP_STATUS_USER: u32 = 1;

/// `struct tpacket_req3`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
    retire_block_tov_ms: u32,
    sizeof_priv: u32,
    feature_req_word: u32,
}
// SAFETY: integers of 4 bytes.
unsafe impl Plain for Request {}

/// A packet socket for all protocols on one interface, and its ring.
#[derive(Debug)]
pub(crate) struct PacketRing {
    fd: OwnedFd,
    map: MmapRaw,
    interface: u32,
    /// The block that is ours, or will be next.
    block: usize,
    /// Whether it is ours.
    held: bool,
}

impl PacketRing {
    /// Receives what comes in on `interface`, the first `snaplen` bytes of each frame.
    ///
    /// # Errors
    /// What the system says: `EPERM` without `CAP_NET_RAW`.
    pub(crate) fn open(interface: &str, snaplen: u32) -> io::Result<PacketRing> {
        let index = interface_index(interface)?;
        // SAFETY: `socket` takes three numbers. Protocol 0: nothing is received before the bind.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a descriptor that was just opened, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let set = |name, value: i32| set_option(fd.as_fd(), libc::SOL_PACKET, name, value);
        set(PACKET_VERSION, TPACKET_V3)?;
        set(PACKET_IGNORE_OUTGOING, 1)?;
        let block = number(BLOCK_BYTES);
        const FRAME_BYTES: u32 = 2048; // of no meaning in version 3, but checked
        let request = Request {
            block_size: block,
            block_nr: number(BLOCKS),
            frame_size: FRAME_BYTES,
            frame_nr: block / FRAME_BYTES * number(BLOCKS),
            retire_block_tov_ms: u32::try_from(BLOCK_TIMEOUT.as_millis()).unwrap_or(1),
            sizeof_priv: 0,
            feature_req_word: 0,
        };
        set_option(fd.as_fd(), libc::SOL_PACKET, PACKET_RX_RING, request)?;
        accept(fd.as_fd(), snaplen)?;
        let map = MmapOptions::new().len(BLOCK_BYTES * BLOCKS).map_raw(&fd)?;
        bind(fd.as_fd(), index)?;
        Ok(PacketRing {
            fd,
            map,
            interface: u32::try_from(index).map_err(io::Error::other)?,
            block: 0,
            held: false,
        })
    }

    /// The index of its interface.
    pub(crate) fn interface(&self) -> u32 {
        self.interface
    }

    /// Gives the block back that is held, and takes the next one if it is ready.
    #[inline]
    pub(crate) fn advance(&mut self) -> bool {
        if self.held {
            self.held = false;
            self.status().store(TP_STATUS_KERNEL, Ordering::Release);
            self.block = (self.block + 1) % BLOCKS;
        }
        self.held = self.status().load(Ordering::Acquire) & TP_STATUS_USER != 0;
        self.held
    }

    /// The block that is held: `struct tpacket_block_desc` and the packets; empty if there is none.
    #[inline]
    pub(crate) fn held(&self) -> &[u8] {
        if !self.held {
            return &[];
        }
        // SAFETY: `block` is below BLOCKS, so the range lies in the mapping, which `self` keeps
        // alive. The block is ours (TP_STATUS_USER was read with acquire order), and the kernel
        // does not write to it until `advance` gives it back, which needs `&mut self` and so the
        // end of this borrow. Bytes have no invalid values.
        unsafe {
            std::slice::from_raw_parts(
                self.map.as_ptr().wrapping_add(self.block * BLOCK_BYTES),
                BLOCK_BYTES,
            )
        }
    }

    #[inline]
    fn status(&self) -> &AtomicU32 {
        let at = self.block * BLOCK_BYTES + STATUS_AT;
        // SAFETY: `block` is below BLOCKS, so the word lies in the mapping, which `self` keeps
        // alive; blocks are page aligned, the word is at a multiple of 4 in it. It is written by
        // the kernel only otherwise, word by word. The slice of `held` covers it, but is gone or
        // not given out yet where this is called: in `advance`, which has `&mut self`.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().wrapping_add(at).cast()) }
    }

    /// Waits until a block may be ready.
    ///
    /// # Errors
    /// What `poll(2)` answers, but for `EINTR`.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<()> {
        wait(self.fd.as_fd(), limit)
    }

    /// Accepts no packet any more. What came before is in the ring when this returns.
    ///
    /// # Errors
    /// What `setsockopt(2)` answers.
    pub(crate) fn stop(&self) -> io::Result<()> {
        accept(self.fd.as_fd(), 0)?;
        std::thread::sleep(BLOCK_TIMEOUT * 2);
        Ok(())
    }

    /// Packets lost because the ring was full, since this was last asked.
    ///
    /// # Errors
    /// What `getsockopt(2)` answers.
    pub(crate) fn take_drops(&self) -> io::Result<u32> {
        // struct tpacket_stats_v3: packets, drops, freezes.
        let [_, drops, _]: [u32; 3] =
            get_option(self.fd.as_fd(), libc::SOL_PACKET, PACKET_STATISTICS)?;
        Ok(drops)
    }
}

/// Waits until a descriptor is readable, or `limit` has passed.
pub(super) fn wait(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is to one live `pollfd`, which the kernel reads and writes for the length
    // of the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, limit_ms) };
    if ready >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// Attaches the filter that accepts the first `len` bytes of every packet: `ret #len`.
fn accept(socket: BorrowedFd<'_>, len: u32) -> io::Result<()> {
    const RETURN_CONSTANT: u16 = 6; // BPF_RET | BPF_K
    let mut program = [libc::sock_filter {
        code: RETURN_CONSTANT,
        jt: 0,
        jf: 0,
        k: len,
    }];
    let filter = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` names one live instruction; both are readable for the length of the call,
    // which copies them.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            len_of::<libc::sock_fprog>(),
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Binds to all protocols of an interface: packets come from now on.
fn bind(socket: BorrowedFd<'_>, interface: i32) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` holds integers only, for which all bits zero is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::c_ushort::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = libc::c_ushort::try_from(libc::ETH_P_ALL)
        .unwrap_or_default()
        .to_be();
    address.sll_ifindex = interface;
    // SAFETY: the pointer is to a live `sockaddr_ll`, the length is its size, and `bind` only reads
    // it.
    let failed = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            len_of::<libc::sockaddr_ll>(),
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sizes of this file, which are small.
fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

const _: () = assert!(size_of::<Request>() == 28);

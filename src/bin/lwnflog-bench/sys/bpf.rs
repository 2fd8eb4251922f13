//! The XDP program of [`super::xdp`]: six instructions by hand, and four commands of `bpf(2)`.

use std::ffi::{CStr, c_void};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The only receive queue of a veth interface that was made with no number of them.
pub(super) const QUEUE: u32 = 0;

/// Where the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In the driver.
    Driver,
    /// Behind it, on socket buffers: where the driver cannot.
    Generic,
}

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_XSK: u32 = 17;
const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_DRIVER: u32 = 1 << 2;

/// `union bpf_attr`, as its words; what a command does not know must be zero.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn new(words: &[u32]) -> Attributes {
        let mut all = [0; 32];
        all[..words.len()].copy_from_slice(words);
        Attributes(all)
    }

    /// Puts an address where `union bpf_attr` has a 64-bit field.
    fn address<T>(mut self, word: usize, address: *const T) -> Attributes {
        let bytes = (address as u64).to_ne_bytes();
        let (words, _) = bytes.as_chunks::<4>();
        for (to, from) in self.0[word..].iter_mut().zip(words) {
            *to = u32::from_ne_bytes(*from);
        }
        self
    }
}

/// Carries out a command; the answer is a descriptor or 0.
///
/// # Safety
/// The addresses among the attributes must be of what the command reads there.
unsafe fn call(command: libc::c_int, attributes: &Attributes) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are readable over the length given; for the rest the caller vouches.
    // None of the commands of this file writes to them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes).cast::<c_void>(),
            size_of::<Attributes>(),
        )
    };
    match libc::c_int::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As [`call`], for commands that open a descriptor.
///
/// # Safety
/// As for [`call`]; and the command must be one of those.
unsafe fn open(command: libc::c_int, attributes: &Attributes) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches.
    let raw = unsafe { call(command, attributes)? };
    // SAFETY: the descriptor was just opened, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn word(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// `struct bpf_insn`: code, registers (destination in the low half), offset, constant.
const fn instruction(code: u8, to: u8, from: u8, offset: u8, constant: u32) -> u64 {
    let low = u32::from_le_bytes([code, to | from << 4, offset, 0]);
    (low as u64) | (constant as u64) << 32
}

/// Loads the program that sends each frame to `socket`, and those of other queues up the stack.
pub(super) fn redirect_to(socket: &OwnedFd) -> io::Result<OwnedFd> {
    const LICENCE: &CStr = c"MIT OR Apache-2.0";
    const REDIRECT_MAP: u32 = 51;
    const PASS: u32 = 2;
    const QUEUE_AT: u8 = 16; // struct xdp_md: rx_queue_index
    if cfg!(target_endian = "big") {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let (key, value) = (QUEUE, word(socket));
    // Key and value of four bytes each, one of them.
    // SAFETY: there are no addresses in it, and the command opens a map.
    let map = unsafe { open(MAP_CREATE, &Attributes::new(&[MAP_TYPE_XSK, 4, 4, 1]))? };
    let update = Attributes::new(&[word(&map)])
        .address(2, &raw const key)
        .address(4, &raw const value);
    // SAFETY: the key and the value are alive, and have the map's four bytes each.
    unsafe { call(MAP_UPDATE, &update)? };
    let program = [
        instruction(0x61, 2, 1, QUEUE_AT, 0), // r2 = context->rx_queue_index
        instruction(0x18, 1, 1, 0, word(&map)), // r1 = map ...
        0,                                    // ... in two instructions
        instruction(0xb7, 3, 0, 0, PASS),     // r3 = what to do without a socket
        instruction(0x85, 0, 0, 0, REDIRECT_MAP), // r0 = bpf_redirect_map(r1, r2, r3)
        instruction(0x95, 0, 0, 0, 0),        // return r0
    ];
    let count = u32::try_from(program.len()).unwrap_or_default();
    let mut load = Attributes::new(&[PROGRAM_TYPE_XDP, count])
        .address(2, program.as_ptr())
        .address(4, LICENCE.as_ptr());
    const EXPECTED_ATTACH_TYPE: usize = 17;
    load.0[EXPECTED_ATTACH_TYPE] = ATTACH_XDP;
    // SAFETY: the addresses are of `count` instructions and of a string that ends in NUL, both
    // alive; the command opens a program, which keeps the map.
    unsafe { open(PROGRAM_LOAD, &load) }
}

/// Attaches a program to an interface for as long as the descriptor is open.
pub(super) fn attach(program: &OwnedFd, interface: u32, mode: Mode) -> io::Result<OwnedFd> {
    let flags = match mode {
        Mode::Driver => FLAG_DRIVER,
        Mode::Generic => FLAG_GENERIC,
    };
    let link = Attributes::new(&[word(program), interface, ATTACH_XDP, flags]);
    // SAFETY: there are no addresses in it, and the command opens a link.
    unsafe { open(LINK_CREATE, &link) }
}

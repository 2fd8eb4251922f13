//! `bpf(2)` for a program at a Netfilter hook: maps, loading, attaching, and the maps' memory.

use std::ffi::{CStr, c_void};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};

const MAP_CREATE: libc::c_int = 0;
const PROGRAM_LOAD: libc::c_int = 5;
const PROGRAM_TEST_RUN: libc::c_int = 10;
const PROGRAM_FD_BY_ID: libc::c_int = 13;
const OBJECT_INFO: libc::c_int = 15;
const PROGRAM_QUERY: libc::c_int = 16;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_LRU_HASH: u32 = 9;
const MAP_FLAG_MMAPABLE: u32 = 1 << 10;
const PROGRAM_TYPE_NETFILTER: u32 = 32;
const ATTACH_NETFILTER: u32 = 45;
const ATTACH_TCX_INGRESS: u32 = 46;
/// `bpf_probe_read_kernel` is given to programs under a licence that the GPL is compatible with.
const LICENCE: &CStr = c"Dual MIT/GPL";
/// The families that a program can stand at a hook of.
pub const NFPROTO_IPV4: u32 = 2;
/// The other.
pub const NFPROTO_IPV6: u32 = 10;

/// `union bpf_attr`, as its words; what a command does not know must be zero.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn new(words: &[u32]) -> Attributes {
        let mut all = [0; 32];
        for (to, from) in all.iter_mut().zip(words) {
            *to = *from;
        }
        Attributes(all)
    }

    /// Puts an address where `union bpf_attr` has a 64-bit field.
    fn address<T>(mut self, word: usize, address: *const T) -> Attributes {
        let bytes = (address as u64).to_ne_bytes();
        let (words, _) = bytes.as_chunks::<4>();
        for (to, from) in self.0.iter_mut().skip(word).zip(words) {
            *to = u32::from_ne_bytes(*from);
        }
        self
    }

    /// Puts a name, cut to fifteen bytes.
    fn name(mut self, word: usize, name: &str) -> Attributes {
        let mut bytes = [0u8; 16];
        for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        let (words, _) = bytes.as_chunks::<4>();
        for (to, from) in self.0.iter_mut().skip(word).zip(words) {
            *to = u32::from_ne_bytes(*from);
        }
        self
    }
}

/// Carries out a command; the answer is a descriptor or 0. Some commands answer in the attributes.
///
/// # Safety
/// The addresses among the attributes must be of what the command reads or writes there.
unsafe fn call(command: libc::c_int, attributes: &mut Attributes) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are readable and writable over the length given; for the rest the
    // caller vouches.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes).cast::<c_void>(),
            size_of::<Attributes>(),
        )
    };
    match libc::c_int::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As [`call`], for commands that open a descriptor. The kernel opens them close-on-exec.
///
/// # Safety
/// As for [`call`]; and the command must be one of those.
unsafe fn open(command: libc::c_int, mut attributes: Attributes) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches.
    let raw = unsafe { call(command, &mut attributes)? };
    // SAFETY: the descriptor was just opened, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn word(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Makes an array map whose memory can be mapped.
pub fn create_array(name: &str, entries: u32, value_bytes: u32) -> io::Result<OwnedFd> {
    let attributes = Attributes::new(&[MAP_TYPE_ARRAY, 4, value_bytes, entries, MAP_FLAG_MMAPABLE])
        .name(7, name);
    // SAFETY: there are no addresses in it, and the command opens a map.
    unsafe { open(MAP_CREATE, attributes) }
}

/// Makes a hash map that forgets what was least recently used when it is full.
pub fn create_lru_hash(
    name: &str,
    entries: u32,
    key_bytes: u32,
    value_bytes: u32,
) -> io::Result<OwnedFd> {
    let words = [MAP_TYPE_LRU_HASH, key_bytes, value_bytes, entries, 0];
    // SAFETY: there are no addresses in it, and the command opens a map.
    unsafe { open(MAP_CREATE, Attributes::new(&words).name(7, name)) }
}

/// Why a program was not loaded: what the system says, and what the verifier does.
#[derive(Debug)]
pub struct Refused {
    /// The error.
    pub source: io::Error,
    /// The verifier's last lines; empty where it was not reached.
    pub log: String,
}

/// Loads a Netfilter program. `instructions` are `struct bpf_insn`.
pub fn load(name: &str, instructions: &[u64]) -> Result<OwnedFd, Refused> {
    const LOG_BYTES: usize = 1 << 20;
    match load_with_log(name, instructions, &mut []) {
        Ok(program) => Ok(program),
        Err(first) => {
            // Once more with a log, for the reason.
            let mut log = vec![0u8; LOG_BYTES];
            match load_with_log(name, instructions, &mut log) {
                Ok(program) => Ok(program),
                Err(source) => {
                    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                    let text = String::from_utf8_lossy(&log[..end]).into_owned();
                    let source = if source.raw_os_error() == Some(libc::ENOSPC) {
                        first
                    } else {
                        source
                    };
                    Err(Refused { source, log: text })
                }
            }
        }
    }
}

fn load_with_log(name: &str, instructions: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    const EXPECTED_ATTACH_TYPE: usize = 17;
    let count = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    let mut load = Attributes::new(&[PROGRAM_TYPE_NETFILTER, count])
        .address(2, instructions.as_ptr())
        .address(4, LICENCE.as_ptr())
        .name(12, name);
    if !log.is_empty() {
        (load.0[6], load.0[7]) = (1, u32::try_from(log.len()).unwrap_or(u32::MAX));
        load = load.address(8, log.as_mut_ptr());
    }
    load.0[EXPECTED_ATTACH_TYPE] = ATTACH_NETFILTER;
    // SAFETY: the addresses are of `count` instructions, of a string that ends in NUL, and of a
    // buffer that is writable over the length given, all alive; the command opens a program, which
    // keeps its maps.
    unsafe { open(PROGRAM_LOAD, load) }
}

/// Attaches a program to a hook of a family in the calling thread's network namespace, for as long
/// as the descriptor is open.
pub fn attach(
    program: BorrowedFd<'_>,
    family: u32,
    hook: u32,
    priority: i32,
) -> io::Result<OwnedFd> {
    let priority = priority.cast_unsigned();
    let words = [
        word(program),
        0,
        ATTACH_NETFILTER,
        0,
        family,
        hook,
        priority,
        0,
    ];
    // SAFETY: there are no addresses in it, and the command opens a link.
    unsafe { open(LINK_CREATE, Attributes::new(&words)) }
}

/// What a test run brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestRun {
    /// The program's verdict.
    pub verdict: u32,
    /// The mean time of a run, nanoseconds.
    pub nanoseconds: u32,
}

/// Runs a program on a packet, from its IPv4 header on, without any traffic.
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> io::Result<TestRun> {
    let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let mut run = Attributes::new(&[word(program), 0, len, 0]).address(4, packet.as_ptr());
    run.0[8] = repeat;
    // SAFETY: the address is of the packet, readable over the length given; nothing is written but
    // the attributes.
    unsafe { call(PROGRAM_TEST_RUN, &mut run)? };
    Ok(TestRun {
        verdict: run.0[1],
        nanoseconds: run.0[9],
    })
}

/// The kernel's number of a loaded program.
pub fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = [0u32; 64]; // struct bpf_prog_info: type, id, ...
    let bytes = u32::try_from(size_of_val(&info)).unwrap_or_default();
    let mut attributes =
        Attributes::new(&[word(program), bytes]).address(2, info.as_mut_ptr().cast_const());
    // SAFETY: the address is of `info`, writable over the length given; it holds no addresses of
    // further buffers (all lengths in it are zero).
    unsafe { call(OBJECT_INFO, &mut attributes)? };
    Ok(info[1])
}

/// Whether programs of traffic control (tcx, Linux 6.6) stand at an interface's ingress. Where the kernel
/// does not say, none do.
pub fn has_ingress_programs(interface: u32) -> bool {
    const COUNT: usize = 6;
    let mut attributes = Attributes::new(&[interface, ATTACH_TCX_INGRESS]);
    // SAFETY: without room for ids the command reads and writes nothing but the attributes.
    let answer = unsafe { call(PROGRAM_QUERY, &mut attributes) };
    answer.is_ok() && attributes.0[COUNT] != 0
}

/// Whether the kernel has a program of this number. Needs CAP_SYS_ADMIN.
pub fn program_exists(id: u32) -> io::Result<bool> {
    // SAFETY: there are no addresses in it, and the command opens a descriptor.
    match unsafe { open(PROGRAM_FD_BY_ID, Attributes::new(&[id])) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until no processor runs what was detached before.
pub fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: `membarrier` takes numbers only. This command waits for an RCU grace period: hooks
    // run within RCU's read side.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer != 0 {
        // Refused on a host with `nohz_full` processors. A program takes microseconds.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The mapped memory of an array map, which the program writes to meanwhile.
///
/// Words are reached as atomics. Bytes are lent as slices under the agreement of the ring: the
/// program does not write to what it has published until it is told that it may.
#[derive(Debug)]
pub struct SharedMap(MmapRaw);

impl SharedMap {
    /// Maps the first `bytes` bytes of a map.
    pub fn new(map: &OwnedFd, bytes: usize) -> io::Result<SharedMap> {
        MmapOptions::new()
            .len(bytes)
            .map_raw(map.as_fd().as_raw_fd())
            .map(SharedMap)
    }

    /// Memory of this process in its place, for tests.
    #[cfg(test)]
    pub(crate) fn anonymous(bytes: usize) -> io::Result<SharedMap> {
        let map = MmapOptions::new().len(bytes).map_anon()?;
        Ok(SharedMap(map.into()))
    }

    /// Bytes mapped.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The word of eight bytes at `at`; `None` beyond the end, or not aligned.
    #[inline]
    pub fn word(&self, at: usize) -> Option<&AtomicU64> {
        let inside = at.checked_add(8)? <= self.0.len() && at.is_multiple_of(8);
        if !inside {
            return None;
        }
        let place = self.0.as_mut_ptr().wrapping_add(at).cast::<u64>();
        // SAFETY: the place was checked to lie within the mapping, which `self` keeps alive, and to
        // be aligned (a mapping is aligned to pages). Whoever else writes there, writes whole
        // words.
        Some(unsafe { AtomicU64::from_ptr(place) })
    }

    /// The word of four bytes at `at`.
    #[inline]
    pub fn half_word(&self, at: usize) -> Option<&AtomicU32> {
        let inside = at.checked_add(4)? <= self.0.len() && at.is_multiple_of(4);
        if !inside {
            return None;
        }
        let place = self.0.as_mut_ptr().wrapping_add(at).cast::<u32>();
        // SAFETY: as in `word`.
        Some(unsafe { AtomicU32::from_ptr(place) })
    }

    /// Lends `len` bytes from `at` on; `None` beyond the end.
    #[inline]
    pub(crate) fn bytes(&self, at: usize, len: usize) -> Option<&[u8]> {
        if at.checked_add(len)? > self.0.len() {
            return None;
        }
        let start = self.0.as_mut_ptr().wrapping_add(at);
        // SAFETY: the range was checked to lie within the mapping, which `self` keeps alive. The
        // caller asks for what the program has published and not yet been given back: the program's
        // own check of the tail keeps it from writing there.
        Some(unsafe { slice::from_raw_parts(start, len) })
    }

    /// Stores bytes, for tests.
    #[cfg(test)]
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.0.len());
        let place = self.0.as_mut_ptr().wrapping_add(at);
        // SAFETY: the range was checked to lie within the mapping, which is borrowed for writing.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

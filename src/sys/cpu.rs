//! Processor time and processor choice.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Restricts the calling thread to one processor.
pub fn pin_thread(core: usize) -> io::Result<()> {
    set_affinity(&set_of(&[core])?)
}

/// Restricts the program that `command` starts to some processors.
pub fn pin_before_exec(command: &mut Command, cores: &[usize]) -> io::Result<()> {
    let set = set_of(cores)?;
    // SAFETY: the closure runs between `fork` and `exec`, where only async-signal-safe work is
    // allowed: it makes one bare system call on memory of its own, without allocation or lock.
    unsafe { command.pre_exec(move || set_affinity(&set)) };
    Ok(())
}

fn set_of(cores: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: `cpu_set_t` is an array of integers, for which all bits zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    for &core in cores {
        if core >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: CPU_SET writes one bit; `core` was checked above to lie within the set.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    Ok(set)
}

fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the pointer is to a live `cpu_set_t` of exactly the given size, only read; thread 0
    // is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The processors the calling thread may run on.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: `cpu_set_t` is an array of integers, for which all bits zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the pointer is to a live `cpu_set_t` of exactly the given size, which the kernel
    // fills; thread 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let in_set = |core: &usize| {
        // SAFETY: CPU_ISSET reads one bit; the range below ends where the set does.
        unsafe { libc::CPU_ISSET(*core, &set) }
    };
    Ok((0..8 * size_of::<libc::cpu_set_t>())
        .filter(in_set)
        .collect())
}

/// The processor time that process `pid` has used, in all its threads, ended ones included.
///
/// Exact to the nanosecond, where `/proc/PID/stat` counts hundredths of a second.
pub fn process_time(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the pointer is to a live `clockid_t`, which the callee writes; the process need not
    // exist (ESRCH).
    let result = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live `timespec`, which the kernel writes; a clock of a process
    // that has ended meanwhile is refused (EINVAL).
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Ok(Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has none of the system calls")]
    fn a_busy_process_uses_time() {
        let pid = std::process::id();
        let before = process_time(pid).unwrap();
        let mut sum = 0u64;
        for n in 0..3_000_000u64 {
            sum = std::hint::black_box(sum ^ n);
        }
        assert!(process_time(pid).unwrap() > before);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has none of the system calls")]
    fn a_processor_that_is_not_there_is_an_error() {
        assert!(pin_thread(usize::MAX).is_err());
        assert!(!allowed_cores().unwrap().is_empty());
    }
}

//! Where the files are to be, and what memory they may take.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};

use super::{Case, Finding, text};
use crate::numbers::grouped;
use crate::session::settings::{FILE_BYTES_DEFAULT, FILES_DEFAULT};

/// A ring of the default size, and the file that is prepared.
const RING_BYTES: u64 = FILE_BYTES_DEFAULT * (FILES_DEFAULT as u64 + 1);

/// `written` is what captures write that run, bytes a second; `None` where none runs.
pub(super) fn examine(case: &Case, written: Option<u64>) -> Vec<Finding> {
    let mut findings: Vec<_> = memory().into_iter().collect();
    let Some(dir) = &case.dir else {
        return findings;
    };
    // It may have to be made first.
    let there = dir.ancestors().find(|dir| dir.is_dir()).map(Path::to_owned);
    let there = there.unwrap_or_else(|| PathBuf::from("."));
    findings.extend(space(&there));
    findings.extend(reserves(&there));
    findings.extend(speed(&there, written));
    findings
}

/// What the disk takes a second, measured with a few megabytes in a file that has no name.
fn speed(dir: &Path, written: Option<u64>) -> Option<Finding> {
    static PIECE: [u8; 1 << 20] = [0x5a; 1 << 20];
    const PIECES: u64 = 8;
    let mut file = unnamed(dir).ok()?;
    let begun = Instant::now();
    for _ in 0..PIECES {
        file.write_all(&PIECE).ok()?;
    }
    file.sync_data().ok()?;
    let nanos = u64::try_from(begun.elapsed().as_nanos()).ok()?.max(1);
    let taken = (PIECES << 20).saturating_mul(1_000_000_000) / nanos;
    let what = format!(
        "the disk of {} takes about {} bytes a second ({PIECES} MiB written and synced once)",
        dir.display(),
        grouped(taken)
    );
    Some(match written {
        None => Finding::fine("disk-speed", what),
        Some(written) => {
            let what = format!("{what}; captures that run write {}", grouped(written));
            if written < taken / 2 {
                Finding::fine("disk-speed", what)
            } else {
                Finding::warning("disk-speed", what)
                    .because("what is captured faster than the disk takes it fills memory first, and then packets wait")
                    .mend("lwnflog ctl snaplen 96   # fewer bytes of each packet; or another disk: -w DIR")
            }
        }
    })
}

/// A file without a name, which goes with this process.
fn unnamed(dir: &Path) -> io::Result<fs::File> {
    let tmpfile = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    fs::File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(tmpfile)
        .open(dir)
}

fn space(dir: &Path) -> Option<Finding> {
    let stat = statvfs(dir).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= RING_BYTES {
        let what = format!("{} has {} bytes free", dir.display(), grouped(free));
        return Some(Finding::fine("disk-space", what));
    }
    let fits = free / FILE_BYTES_DEFAULT.max(1);
    let what = format!(
        "{} has {} bytes free: a ring of the default size takes {}",
        dir.display(),
        grouped(free),
        grouped(RING_BYTES)
    );
    let finding = Finding::error("disk-space", what)
        .because("a capture does not begin where its ring has no room");
    Some(match fits {
        3.. => finding.mend(format!("lwnflog --group 5 --files {}", fits - 1)),
        _ => finding.mend(format!(
            "lwnflog --group 5 --file-size {} --files 4",
            (free / 6).max(256 << 10)
        )),
    })
}

/// Whether the file system can reserve space, asked with a file that has no name.
fn reserves(dir: &Path) -> Option<Finding> {
    const ASKED_BYTES: u64 = 4096;
    let file = match unnamed(dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!("{}: no file can be made there", dir.display());
            let finding =
                Finding::error("disk-right", what).because("the ring's files are made there");
            return Some(finding.mend(format!("chown \"$(id -u)\" {}", dir.display())));
        }
        // Not every file system has files without names.
        Err(_) => return None,
    };
    match fallocate(&file, FallocateFlags::empty(), 0, ASKED_BYTES) {
        Ok(()) => Some(Finding::fine("disk-reserve", "the file system reserves space")),
        Err(rustix::io::Errno::OPNOTSUPP) => Some(
            Finding::note("disk-reserve", format!("the file system of {} cannot reserve space", dir.display()))
                .because("each file is written full of zeros instead: more work, and others may fill the disk meanwhile"),
        ),
        Err(_) => None,
    }
}

/// The cgroup's limit counts the pages of mapped files.
fn memory() -> Option<Finding> {
    const LEAST_BYTES: u64 = 3 * FILE_BYTES_DEFAULT;
    let own = text("/proc/self/cgroup")?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let limit: u64 = Path::new(path.trim_start_matches('/'))
        .ancestors()
        .find_map(|path| {
            let file = Path::new("/sys/fs/cgroup").join(path).join("memory.max");
            text(file.to_str()?)?.parse().ok()
        })?;
    (limit < LEAST_BYTES).then(|| {
        let what = format!("the cgroup lets this process have {} bytes of memory", grouped(limit));
        Finding::warning("memory", what)
            .because("the pages of three mapped files count: beyond the limit they are written out while packets wait")
            .mend("lwnflog --group 5 --file-size 20MB   # or a higher MemoryMax=")
    })
}

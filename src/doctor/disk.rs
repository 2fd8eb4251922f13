//! Where the files are to be, and what memory they may take.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::{Case, Finding, claim};
use crate::numbers::grouped;
use crate::ring::{keeps_rights, passing};
use crate::session::settings::{FILE_BYTES_DEFAULT, FILE_BYTES_MIN, FILES_DEFAULT};
use crate::sys::cgroup::{is_memory, memory_max};

/// A ring of the default size, and the file that is prepared.
const RING_BYTES: u64 = FILE_BYTES_DEFAULT * (FILES_DEFAULT as u64 + 1);

/// `written` is what captures write that run, bytes a second; `None` where none runs.
pub(super) fn examine(case: &Case, written: Option<u64>) -> Vec<Finding> {
    let mut findings: Vec<_> = memory(case).into_iter().collect();
    let Some(dir) = &case.dir else {
        return findings;
    };
    // It may have to be made first.
    let there = dir
        .ancestors()
        .find(|dir| !dir.as_os_str().is_empty() && dir.exists());
    let there = there.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let refused = place(case, dir, &there).or_else(|| claim::examine(case, dir, &there));
    if let Some(finding) = refused {
        findings.push(finding);
        return findings;
    }
    findings.extend(in_memory(case, &there));
    findings.extend(space(case, dir, &there));
    findings.extend(reserves(case, &there));
    findings.extend(speed(&there, written));
    findings
}

/// Why no ring can be made in `dir`, of which `there` is there already.
fn place(case: &Case, dir: &Path, there: &Path) -> Option<Finding> {
    let shown = there.display();
    let elsewhere = |finding: Finding| finding.mend(elsewhere(case, there));
    if !there.is_dir() {
        let what = format!("{shown} is no directory, and a ring is a directory of files");
        return Some(elsewhere(Finding::error("disk-place", what)));
    }
    let anybody = fs::metadata(there).is_ok_and(|meta| meta.mode() & 0o002 != 0);
    // What is made there is as open as what is there.
    if anybody && !keeps_rights(there) {
        let what = format!(
            "everybody may write to {shown}, and its file system keeps no rights of single files"
        );
        return Some(elsewhere(Finding::error("disk-open", what).because(
            "whoever may write there can exchange what was captured: a capture does not begin there, unless the file \
             system is mounted for its owner alone (-o umask=027)",
        )));
    }
    if anybody && there == dir {
        let what = format!("everybody may write to {shown}");
        let finding = Finding::error("disk-open", what)
            .because("whoever may write there can exchange what was captured: a capture does not begin there");
        return Some(finding.mend(format!("chmod o-w {}", quoted(there))));
    }
    let error = passing(there).err()?;
    let finding = |id, what: &str| Finding::error(id, format!("{shown}: {what}"));
    match error.raw_os_error() {
        Some(libc::EROFS) => Some(elsewhere(
            finding("disk-read-only", "the file system is read-only")
                .because("the ring's files are made there"),
        )),
        Some(libc::ENOSPC) => {
            let full = statvfs(there).is_ok_and(|stat| stat.f_files != 0 && stat.f_favail == 0);
            let what = match full {
                true => "the file system has no inode left, so that no file can be made",
                false => "the file system is full, so that no file can be made",
            };
            Some(elsewhere(finding("disk-full", what).because(
                "a ring makes its files as it goes, and one more than it keeps",
            )))
        }
        Some(libc::EDQUOT) => Some(elsewhere(
            finding("disk-full", "the quota of this user is used up")
                .because("a ring makes its files as it goes, and one more than it keeps"),
        )),
        Some(libc::EACCES | libc::EPERM) => {
            let own = if there == dir {
                dir.join("lwnflog")
            } else {
                dir.to_owned()
            };
            let own = quoted(&own);
            Some(
                finding("disk-right", "this user can make no file there")
                    .because("the ring's files are made there, in a directory of the capture's own")
                    .mend(format!(
                        "sudo install -d -o \"$(id -u)\" -m 0750 {own}   # then: -w {own}"
                    )),
            )
        }
        _ => None,
    }
}

/// The same capture where there is room for it.
pub(super) fn elsewhere(case: &Case, not: &Path) -> String {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join("lwnflog-capture"));
    let candidates = [
        Some(PathBuf::from("/var/lib/lwnflog")),
        Some(PathBuf::from("/var/tmp/lwnflog")),
        home,
    ];
    let usable = |dir: &PathBuf| {
        let there = dir.ancestors().find(|dir| dir.exists());
        !dir.starts_with(not) && there.is_some_and(|there| passing(there).is_ok())
    };
    let dir = candidates.into_iter().flatten().find(usable);
    let dir = dir.map_or("DIR".to_owned(), |dir| quoted(&dir));
    format!("lwnflog {} -w {dir}", case.words())
}

/// For a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@%,".contains(letter);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What the disk takes a second, measured with a few megabytes in a file that has no name.
fn speed(dir: &Path, written: Option<u64>) -> Option<Finding> {
    static PIECE: [u8; 1 << 20] = [0x5a; 1 << 20];
    const PIECES: u64 = 8;
    let mut file = passing(dir).ok()?;
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

/// Whether the ring's files are memory, of which the cgroup has not so much.
fn in_memory(case: &Case, there: &Path) -> Option<Finding> {
    let limit = memory_max().filter(|limit| *limit < RING_BYTES && is_memory(there))?;
    let what = format!(
        "the files of {} are memory, of which the cgroup lets this process have {} bytes; a ring of the default size \
         takes {}",
        there.display(),
        grouped(limit),
        grouped(RING_BYTES)
    );
    let finding = Finding::error("disk-memory", what).because(
        "the kernel kills a process that takes more: a capture does not begin where its ring would",
    );
    Some(finding.mend(elsewhere(case, there)))
}

/// Whether a ring of the default size has room: what a ring there has already is its room, too.
fn space(case: &Case, dir: &Path, there: &Path) -> Option<Finding> {
    let stat = statvfs(there).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let (taken, is_captured) = ring_there(dir);
    let room = free.saturating_add(taken);
    let shown = there.display();
    if room >= RING_BYTES || is_captured {
        let what = format!("{shown} has {} bytes free", grouped(free));
        return Some(Finding::fine("disk-space", what));
    }
    let what = format!(
        "{shown} has {} bytes free: a ring of the default size takes {}",
        grouped(room),
        grouped(RING_BYTES)
    );
    let finding = Finding::error("disk-space", what)
        .because("a capture does not begin where its ring has no room");
    // A file is being prepared while the others are kept; and something else may write there.
    let fits = room / FILE_BYTES_DEFAULT;
    let size = match fits {
        4.. => format!("--files {}", fits - 2),
        _ if room < 8 * FILE_BYTES_MIN => return Some(finding.mend(elsewhere(case, there))),
        _ => format!("--file-size {}B --files 4", room / 8),
    };
    Some(finding.mend(format!(
        "lwnflog {} -w {} {size}",
        case.words(),
        quoted(dir)
    )))
}

/// What the files of rings in a directory take, and whether a capture writes one of them.
fn ring_there(dir: &Path) -> (u64, bool) {
    let (mut taken, mut is_captured) = (0u64, false);
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".lock") {
            let lock = fs::File::open(file.path());
            // Taken for a moment: a capture that begins just then tries again.
            is_captured |= lock.is_ok_and(|lock| lock.try_lock_shared().is_err());
        } else if name.contains(".pcap") {
            let blocks = file.metadata().map_or(0, |meta| meta.blocks());
            taken = taken.saturating_add(blocks * 512);
        }
    }
    (taken, is_captured)
}

/// Whether the file system can reserve space, asked with a file that has no name.
fn reserves(case: &Case, dir: &Path) -> Option<Finding> {
    const ASKED_BYTES: u64 = 4096;
    let file = passing(dir).ok()?;
    match fallocate(&file, FallocateFlags::empty(), 0, ASKED_BYTES) {
        Ok(()) => Some(Finding::fine("disk-reserve", "the file system reserves space")),
        Err(Errno::OPNOTSUPP) => Some(
            Finding::note("disk-reserve", format!("the file system of {} cannot reserve space", dir.display()))
                .because("each file is written full of zeros instead: more work, and others may fill the disk meanwhile"),
        ),
        Err(Errno::DQUOT) => Some(
            Finding::error("disk-full", format!("{}: the quota of this user is used up", dir.display()))
                .because("a ring makes its files as it goes, and one more than it keeps")
                .mend(elsewhere(case, dir)),
        ),
        Err(_) => None,
    }
}

/// The cgroup's limit counts the pages of mapped files.
fn memory(case: &Case) -> Option<Finding> {
    const LEAST_BYTES: u64 = 3 * FILE_BYTES_DEFAULT;
    let limit = memory_max()?;
    (limit < LEAST_BYTES).then(|| {
        let what = format!("the cgroup lets this process have {} bytes of memory", grouped(limit));
        Finding::warning("memory", what)
            .because("the pages of three mapped files count: beyond the limit they are written out while packets wait")
            .mend(format!("lwnflog {} --file-size 20MB   # or a higher MemoryMax=", case.words()))
    })
}

//! What else keeps a ring from beginning in a directory: a link to nothing, a lock that is another's, a
//! limit of this process.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::disk::{elsewhere, quoted};
use super::{Case, Finding};
use crate::numbers::grouped;
use crate::ring::lock_of;
use crate::session::settings::{FILE_BYTES_DEFAULT, FILE_BYTES_MIN};
use crate::source::holder::group_holder;

/// Why no ring can begin in `dir`, of which `there` is there already.
pub(super) fn examine(case: &Case, dir: &Path, there: &Path) -> Option<Finding> {
    dangling(case, dir, there)
        .or_else(|| lock(case, dir))
        .or_else(|| longest(case, dir))
}

/// What is not there may be a link to it.
fn dangling(case: &Case, dir: &Path, there: &Path) -> Option<Finding> {
    let mut missing = dir.ancestors().take_while(|above| *above != there);
    let link = missing.find(|above| fs::symlink_metadata(above).is_ok())?;
    let what = format!("{} is a link to what is not there", link.display());
    let finding = Finding::error("disk-place", what)
        .because("a ring's directory is made where its own name is free");
    Some(finding.mend(elsewhere(case, link)))
}

/// The ring's lock.
fn lock(case: &Case, dir: &Path) -> Option<Finding> {
    let ring = match case.group {
        Some(group) => format!("g{group}"),
        None if case.hook => "prerouting".to_owned(),
        None => return None,
    };
    let path = lock_of(dir, &ring);
    let shown = path.display();
    let mut lock = match File::options().read(true).write(true).open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let (uid, own) = (
                fs::symlink_metadata(&path).ok()?.uid(),
                rustix::process::geteuid().as_raw(),
            );
            let what = format!("the lock {shown} is that of uid {uid}");
            let finding = Finding::error("disk-lock", what)
                .because("so are the files of a capture they have run there: this user may not go on with its ring");
            let dir = quoted(dir);
            return Some(finding.mend(format!("sudo chown -R --from={uid} {own} {dir}")));
        }
        Err(_) => return None,
    };
    // Taken for a moment: a capture that begins just then tries again.
    let Err(TryLockError::WouldBlock) = lock.try_lock_shared() else {
        return None;
    };
    let mut holder = String::new();
    let _ = lock.read_to_string(&mut holder);
    let pid = holder.trim().parse::<u32>().ok();
    // The capture of this group, which is as it should be.
    let own = case
        .group
        .and_then(group_holder)
        .and_then(|holder| holder.pid);
    if case.hook || pid.is_some() && pid == own {
        return None;
    }
    let who = pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    let what = format!(
        "the ring {ring} of {} is that of a capture that runs ({who})",
        dir.display()
    );
    let finding =
        Finding::error("disk-lock", what).because("a ring has one writer: a second one is refused");
    Some(finding.mend(elsewhere(case, dir)))
}

/// `ulimit -f`
fn longest(case: &Case, dir: &Path) -> Option<Finding> {
    let limit = getrlimit(Resource::Fsize).current?;
    if limit >= FILE_BYTES_DEFAULT {
        return None;
    }
    let what = format!(
        "this process may write files of {} bytes at the most (`ulimit -f`)",
        grouped(limit)
    );
    let finding = Finding::error("file-limit", what).because(
        "a file has its whole length from the start: a capture with longer ones does not begin",
    );
    Some(if limit < FILE_BYTES_MIN {
        finding.mend(format!(
            "ulimit -f unlimited; lwnflog {} -w {}",
            case.words(),
            quoted(dir)
        ))
    } else {
        finding.mend(format!(
            "lwnflog {} -w {} --file-size {limit}b",
            case.words(),
            quoted(dir)
        ))
    })
}

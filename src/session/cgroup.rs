//! A cgroup of version 2 of its own for the processes of one command (`cgroups(7)`).

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

/// Where processes are put, and listed.
const PROCS: &str = "cgroup.procs";

/// A cgroup below that of this process.
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory.
    pub dir: PathBuf,
    /// Its number: the directory's inode.
    pub id: u64,
    /// How deep it stands.
    pub level: u32,
}

impl Cgroup {
    /// Makes one, below this process's own.
    ///
    /// # Errors
    /// A system without cgroups of version 2; what it says otherwise.
    pub fn make() -> io::Result<Cgroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let (parent, level) = own_dir(&mounts, &own).ok_or_else(|| {
            // Not over /sys/fs/cgroup, where those of version 1 may be.
            let why = "no cgroups of version 2 are mounted here, and they can be beside those of version 1: \
                       `mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2`";
            io::Error::new(io::ErrorKind::Unsupported, why)
        })?;
        let dir = parent.join(format!("lwnflog-run-{}", process::id()));
        fs::create_dir(&dir)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        let id = fs::metadata(&dir)?.ino();
        Ok(Cgroup {
            dir,
            id,
            level: level + 1,
        })
    }
}

/// The directory of this process's cgroup, and how deep it stands.
fn own_dir(mounts: &str, own: &str) -> Option<(PathBuf, u32)> {
    let path = Path::new(own.lines().find_map(|line| line.strip_prefix("0::"))?);
    let mut mounts = mounts.lines().filter_map(|line| {
        // The fourth column is what is mounted, the fifth where; behind ` - ` comes the kind (proc(5)).
        let (columns, kind) = line.split_once(" - ")?;
        let mut columns = columns.split(' ').skip(3);
        kind.starts_with("cgroup2 ").then_some(())?;
        Some((columns.next()?, columns.next()?))
    });
    let dir = mounts.find_map(|(root, place)| {
        let below = path.strip_prefix(root).ok()?;
        Some(Path::new(place).join(below))
    })?;
    let names = path.components().filter(|part| *part != Component::RootDir);
    // One above the root of this process's namespace has no directory here.
    let mut names = names.map(|part| matches!(part, Component::Normal(_)).then_some(1));
    let level = names.try_fold(0, |sum: u32, one| Some(sum + one?))?;
    Some((dir, level))
}

/// Puts the calling process into a cgroup.
///
/// # Errors
/// What the system says.
pub fn enter(dir: &Path) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(dir.join(PROCS))?
        .write_all(b"0")
}

/// How many processes are in a cgroup.
pub fn processes(dir: &Path) -> usize {
    let listed = fs::read_to_string(dir.join(PROCS)).unwrap_or_default();
    listed.lines().count()
}

/// Removes a cgroup: the processes that are left in it go on in the one above.
///
/// # Errors
/// What the system says, where that lasts.
pub fn remove(dir: &Path) -> io::Result<()> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    let above = dir.parent().unwrap_or(dir).join(PROCS);
    for _ in 0..TRIES {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
        let left = fs::read_to_string(dir.join(PROCS)).unwrap_or_default();
        for process in left.lines() {
            // One that has ended meanwhile is no matter.
            let to = fs::OpenOptions::new().write(true).open(&above);
            let _ = to.and_then(|mut to| to.write_all(process.as_bytes()));
        }
        thread::sleep(PAUSE);
    }
    fs::remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_process_stands() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let own = "0::/user.slice/user-0.slice/session-1.scope\n";
        let dir = "/sys/fs/cgroup/user.slice/user-0.slice/session-1.scope";
        assert_eq!(own_dir(unified, own), Some((dir.into(), 3)));
        let both = "1 0 0:1 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                    2 0 0:2 / /sys/fs/cgroup/unified rw shared:3 - cgroup2 cgroup2 rw\n";
        let own = "8:pids:/x\n0::/\n";
        assert_eq!(
            own_dir(both, own),
            Some(("/sys/fs/cgroup/unified/".into(), 0))
        );
        assert_eq!(own_dir("1 0 0:1 / /x rw - cgroup cgroup rw\n", own), None);
        // A part of it is mounted, and of another only what is none of ours.
        let parts = "2 0 0:2 /other /a rw - cgroup2 cgroup2 rw\n\
                     3 0 0:2 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            own_dir(parts, "0::/pod/app\n"),
            Some(("/sys/fs/cgroup/app".into(), 2))
        );
        assert_eq!(own_dir(unified, "0::/../app\n"), None);
    }
}

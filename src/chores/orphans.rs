//! What commands leave behind: processes whose parent has ended come to this one, and not to a capture that
//! is process 1 of its container, which knows nothing of them. Ended ones are waited for.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

/// How often it is looked for them.
const EVERY: Duration = Duration::from_millis(500);

/// Processes that somebody waits for.
static OWN: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

fn own() -> MutexGuard<'static, Option<HashSet<u32>>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to wait for them, for as long as this process lives.
///
/// # Errors
/// What the system says.
pub(super) fn look_after() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    thread::Builder::new()
        .name("orphans".to_owned())
        .spawn(|| {
            loop {
                thread::sleep(EVERY);
                reap();
            }
        })?;
    Ok(())
}

/// Starts a command that is waited for by who has started it.
///
/// # Errors
/// What the system says.
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut own = own();
    let child = command.spawn()?;
    own.get_or_insert_default().insert(child.id());
    Ok(child)
}

/// It has been waited for.
pub(super) fn forget(child: &Child) {
    own().get_or_insert_default().remove(&child.id());
}

fn reap() {
    // None is begun meanwhile.
    let mut own = own();
    let own = own.get_or_insert_default();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    for task in tasks.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        for pid in children.filter(|pid| !u32::try_from(*pid).is_ok_and(|pid| own.contains(&pid))) {
            let _ = Pid::from_raw(pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
        }
    }
}

//! Network namespaces without names, and the user namespace that makes them possible without root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use super::{LabError, link};
use crate::sys::netns;

/// What [`enter_user_namespace`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// The process could make network namespaces as it was: nothing changed.
    NotNeeded,
    /// The process is now root of a user namespace of its own.
    Entered,
}

/// Makes the process root of a user namespace of its own, unless it may make namespaces already.
///
/// Call it first thing in `main`: the kernel refuses it (EINVAL) once there is a second thread.
pub fn enter_user_namespace() -> Result<UserNamespace, LabError> {
    if has_admin_rights() {
        return Ok(UserNamespace::NotNeeded);
    }
    let (user, group) = netns::effective_ids();
    let failed = |action| move |source| LabError::UserNamespace { action, source };
    netns::unshare_user().map_err(failed("unshare"))?;
    // Without privileges a group map is accepted only once `setgroups` has been given up.
    fs::write("/proc/self/setgroups", "deny").map_err(failed("write /proc/self/setgroups"))?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))
        .map_err(failed("write /proc/self/uid_map"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
        .map_err(failed("write /proc/self/gid_map"))?;
    Ok(UserNamespace::Entered)
}

/// Whether the process holds CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN.
fn has_admin_rights() -> bool {
    const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|set| set & NEEDED == NEEDED)
}

/// A network namespace of its own, which lives as long as this value or a process inside it.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    /// Makes a namespace with its loopback interface up and IPv6 off, so that nothing but the
    /// caller's own traffic is ever seen in it. The caller stays where it is.
    pub fn new() -> Result<Self, LabError> {
        let make = || {
            netns::unshare_network().map_err(|source| LabError::Namespace {
                action: "make a network namespace",
                source,
            })?;
            let fd =
                File::open("/proc/thread-self/ns/net").map_err(|source| LabError::Namespace {
                    action: "hold a network namespace",
                    source,
                })?;
            for scope in ["all", "default"] {
                disable_ipv6(scope)?;
            }
            link::set_up("lo")?;
            Ok(Self { fd: fd.into() })
        };
        on_a_thread(make)?
    }

    /// Runs `work` on a thread of its own inside the namespace; the caller's thread stays where it
    /// is. A panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        on_a_thread(|| {
            netns::enter_network(self.fd.as_fd()).map_err(|source| LabError::Namespace {
                action: "enter a network namespace",
                source,
            })?;
            Ok(work())
        })?
    }

    /// A program to be started inside the namespace, killed with the thread that starts it.
    ///
    /// `/sys` still shows the host's interfaces to it: almost every tool asks the kernel otherwise.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        let fd = self.fd.try_clone().map_err(|source| LabError::Namespace {
            action: "hold a network namespace",
            source,
        })?;
        let mut command = Command::new(program);
        netns::die_with_parent(&mut command);
        netns::enter_network_before_exec(&mut command, fd);
        Ok(command)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Without IPv6 in the kernel, or with `/proc/sys` read-only (a container), there is nothing to do.
fn disable_ipv6(scope: &str) -> Result<(), LabError> {
    let path = Path::new("/proc/sys/net/ipv6/conf")
        .join(scope)
        .join("disable_ipv6");
    match fs::write(&path, "1") {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Err(LabError::Proc {
                path,
                source: error,
            })
        }
        _ => Ok(()),
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)
            .map_err(LabError::Thread)?;
        handle
            .join()
            .or_else(|panic| std::panic::resume_unwind(panic))
    })
}

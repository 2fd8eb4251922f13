//! Why a group or queue cannot be read: each error names the thing, the cause and the remedy.

use std::fmt;
use std::io;

use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use super::holder::holder;
use crate::source::Target;

/// A group or queue, as messages name it: `group 5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which {
    /// Group or queue.
    pub target: Target,
    /// Its number.
    pub number: u16,
}

impl Which {
    /// The kernel's subsystem: a module, and a file of `/proc/net/netfilter`.
    fn subsystem(self) -> &'static str {
        match self.target {
            Target::Group => "nfnetlink_log",
            Target::Queue => "nfnetlink_queue",
        }
    }

    /// What of Netfilter it is.
    fn facility(self) -> &'static str {
        match self.target {
            Target::Group => "log",
            Target::Queue => "queue",
        }
    }

    /// The statement of a rule that names it.
    fn statement(self) -> &'static str {
        match self.target {
            Target::Group => "log group",
            Target::Queue => "queue num",
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.target, self.number)
    }
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// This part of Netfilter is not in this kernel.
    #[error(
        "{0}: this kernel has no Netfilter {facility} to netlink; load it with `modprobe {module}` (CONFIG_NETFILTER_NETLINK_{config})",
        facility = .0.facility(), module = .0.subsystem(), config = .0.facility().to_uppercase()
    )]
    NotInKernel(Which),
    /// Somebody else holds it.
    #[error(
        "{which} is taken by {holder}; stop it, or capture another {target} (and change the rule's `{statement}`)",
        target = .which.target, statement = .which.statement()
    )]
    Taken {
        /// What was to be read.
        which: Which,
        /// The process, or what is known of it.
        holder: String,
    },
    /// The caller may not.
    #[error(
        "{0}: capturing needs CAP_NET_ADMIN in this network namespace; run as root, or give the program the right, for a group of users and nobody else (docs/USAGE.md, Rights)"
    )]
    NoRight(Which),
    /// One of the two, and `/proc` is not there to tell.
    #[error(
        "{0}: the kernel refuses it: another process has it, or this one has no CAP_NET_ADMIN in this network namespace; \
         which of the two cannot be told without /proc"
    )]
    TakenOrNoRight(Which),
    /// Anything else.
    #[error("{which}: cannot {what}: {source}")]
    System {
        /// What was to be read.
        which: Which,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl SourceError {
    /// The error of a step before the bind: what was tried, and what the system said.
    pub(super) fn system(which: Which, (what, source): (&'static str, io::Error)) -> Self {
        // Netfilter has no netlink at all here.
        if source.raw_os_error() == Some(libc::EPROTONOSUPPORT) {
            return SourceError::NotInKernel(which);
        }
        SourceError::System {
            which,
            what,
            source,
        }
    }

    /// What the kernel's answer to the bind means.
    pub(super) fn of_bind(which: Which, source: io::Error) -> Self {
        match source.raw_os_error() {
            // What another socket holds answers EPERM too: who holds it decides.
            Some(libc::EPERM) => match holder(which.subsystem(), which.number) {
                Some(holder) => SourceError::Taken { which, holder },
                None if has_right() && !proc_is_there() => SourceError::TakenOrNoRight(which),
                None => SourceError::NoRight(which),
            },
            Some(libc::EBUSY) => SourceError::Taken {
                which,
                holder: "this process".to_owned(),
            },
            Some(libc::EINVAL | libc::EOPNOTSUPP) => SourceError::NotInKernel(which),
            _ => SourceError::system(which, ("bind it", source)),
        }
    }
}

/// Whether the calling thread has CAP_NET_ADMIN in some namespace; without it the answer is plain.
fn has_right() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

fn proc_is_there() -> bool {
    Path::new("/proc/thread-self/net/netfilter").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a kernel that lacks it: none of the machines that run the tests does.
    #[test]
    fn what_this_kernel_lacks_is_named_with_its_module() {
        let says = |target| {
            let which = Which { target, number: 5 };
            let of_bind = SourceError::of_bind(which, io::Error::from_raw_os_error(libc::EINVAL));
            let no_socket = io::Error::from_raw_os_error(libc::EPROTONOSUPPORT);
            let of_open = SourceError::system(which, ("open a netlink socket", no_socket));
            assert_eq!(of_bind.to_string(), of_open.to_string());
            of_bind.to_string()
        };
        assert_eq!(
            says(Target::Group),
            "group 5: this kernel has no Netfilter log to netlink; load it with \
             `modprobe nfnetlink_log` (CONFIG_NETFILTER_NETLINK_LOG)"
        );
        assert_eq!(
            says(Target::Queue),
            "queue 5: this kernel has no Netfilter queue to netlink; load it with \
             `modprobe nfnetlink_queue` (CONFIG_NETFILTER_NETLINK_QUEUE)"
        );
    }
}

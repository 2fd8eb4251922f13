//! What can go wrong in the laboratory.

use std::io;
use std::path::PathBuf;

/// What can go wrong in the laboratory, with the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The system does not let this user make a user namespace.
    #[error(
        "cannot make a user namespace ({action}): {source}; run as root, or allow it: \
         `sysctl user.max_user_namespaces`, `kernel.unprivileged_userns_clone` or \
         `kernel.apparmor_restrict_unprivileged_userns` may forbid it"
    )]
    UserNamespace {
        /// The step that failed.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A network namespace cannot be made or entered.
    #[error("cannot {action}: {source}; this needs root, or a user namespace")]
    Namespace {
        /// The step that failed.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A thread for work inside a namespace cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The kernel refused a request about a link or an address.
    #[error("cannot {action}: {reason}")]
    Link {
        /// The request.
        action: String,
        /// The kernel's answer, or neli's.
        reason: String,
    },
    /// A file under `/proc` cannot be read or written.
    #[error("{}: {source}", path.display())]
    Proc {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no such interface in the namespace.
    #[error("no interface named {0} in the namespace")]
    NoInterface(String),
    /// Frames cannot be sent.
    #[error("cannot send on {interface}: {source}")]
    Send {
        /// The sending interface.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread cannot be bound to the processor asked for.
    #[error("cannot run on processor {core}: {source}")]
    Pin {
        /// The processor.
        core: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A frame of the length asked for cannot be built.
    #[error("a frame of {0} bytes cannot be sent: from {min} to {max} bytes are possible", min = super::MIN_FRAME_LEN, max = super::frames::MAX_FRAME_LEN)]
    FrameLength(usize),
    /// A trace to replay cannot be read.
    #[error("cannot replay {}: {reason}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

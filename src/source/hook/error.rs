//! Why a program cannot be had at a hook: each error names the thing, the cause and the way out.

use std::fs;
use std::io;
use std::path::Path;

use super::btf::BtfError;
use crate::sys::hook::Refused;

/// Why a hook cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// output and postrouting.
    #[error(
        "hook {0}: its packets also come from processes, which softirq interrupts, and the ring has no \
         lock; capture prerouting, input or forward, or use a rule there and `--group 5`"
    )]
    ProcessContext(&'static str),
    /// No such hook.
    #[error("there is no IPv4 hook `{0}`; it is one of prerouting, input, forward")]
    NoHook(String),
    /// PREEMPT_RT
    #[error(
        "hook: this kernel is PREEMPT_RT, where softirq can be interrupted and the ring has no lock; \
         use `--group 5`"
    )]
    Realtime,
    /// Before Linux 6.4.
    #[error(
        "hook: this kernel ({0}) has no programs at Netfilter hooks, Linux 6.4 and later have; use \
         `--group 5`"
    )]
    OldKernel(String),
    /// Built without.
    #[error(
        "hook: this kernel is built without programs at Netfilter hooks (CONFIG_NETFILTER_BPF_LINK); \
         use `--group 5`"
    )]
    NotBuilt,
    /// No types.
    #[error(
        "hook: cannot read the kernel's types from {path}: {source}; it needs CONFIG_DEBUG_INFO_BTF, \
         or use `--group 5`"
    )]
    NoTypes {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: BtfError,
    },
    /// A type or function is missing or different.
    #[error("hook: the kernel's types do not fit: {0}; use `--group 5`")]
    Types(BtfError),
    /// In a user namespace.
    #[error(
        "hook: programs cannot be loaded in a user namespace, only by root of the host; use \
         `--group 5`"
    )]
    UserNamespace,
    /// Capabilities are missing.
    #[error(
        "hook: loading a program needs {missing}; run as root, or give the program what it lacks, for a group of \
         users and nobody else (docs/USAGE.md, Rights), or use `--group 5`"
    )]
    NoRight {
        /// Which.
        missing: String,
    },
    /// Lockdown.
    #[error(
        "hook: the kernel is locked down (confidentiality) and lets no program read its memory; use \
         `--group 5`"
    )]
    Lockdown,
    /// A filter of system calls, or something else that is not seen.
    #[error(
        "hook: bpf(2) is refused though no capability is missing; {}; use `--group 5`",
        if *.seccomp { "a filter of system calls is in force (a container's, or systemd's)" } else { "the cause is not known (a security module?)" }
    )]
    Denied {
        /// Whether the process is under seccomp.
        seccomp: bool,
    },
    /// The verifier did not take it.
    #[error("hook: the kernel's verifier refuses the program ({source}): {log}; use `--group 5`")]
    Verifier {
        /// What the system said.
        source: io::Error,
        /// The last lines of the verifier.
        log: String,
    },
    /// No memory.
    #[error("hook: no memory for rings of {bytes} bytes ({source}); use a smaller --buffer-size")]
    Memory {
        /// Bytes in sum.
        bytes: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A priority that is taken by definition.
    #[error("hook: priority {0} cannot be had; the first is -2147483647 and the last 2147483646")]
    Priority(i32),
    /// The kernel gives a program a priority of its own.
    #[error(
        "hook: priority {0} is taken there, by a chain of nftables or by another program (two captures?); \
         choose another with --priority"
    )]
    PriorityTaken(i32),
    /// The settings contradict themselves.
    #[error("hook: {0}")]
    Settings(String),
    /// Anything else.
    #[error("hook: cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What the host says of itself: what a refusal is explained by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Host {
    uid_map: String,
    status: String,
    lockdown: String,
}

impl Host {
    fn now() -> Host {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Host {
            uid_map: read("/proc/self/uid_map"),
            status: read("/proc/thread-self/status"),
            lockdown: read("/sys/kernel/security/lockdown"),
        }
    }

    fn status_of(&self, field: &str) -> &str {
        let line = self
            .status
            .lines()
            .find_map(|line| line.strip_prefix(field));
        line.unwrap_or_default().trim()
    }

    /// The initial one maps all ids to themselves.
    fn in_user_namespace(&self) -> bool {
        let words: Vec<_> = self.uid_map.split_whitespace().collect();
        !words.is_empty() && words != ["0", "0", "4294967295"]
    }

    fn missing(&self) -> Vec<&'static str> {
        let Ok(set) = u64::from_str_radix(self.status_of("CapEff:"), 16) else {
            return Vec::new();
        };
        let has = |number: u32| set >> number & 1 != 0;
        let all = has(CAP_SYS_ADMIN);
        let mut missing = Vec::new();
        if !has(CAP_BPF) && !all {
            missing.push("CAP_BPF");
        }
        if !has(CAP_PERFMON) && !all {
            missing.push("CAP_PERFMON");
        }
        if !has(CAP_NET_ADMIN) {
            missing.push("CAP_NET_ADMIN");
        }
        missing
    }

    /// What EPERM means here.
    fn refusal(&self) -> HookError {
        let missing = self.missing();
        if self.in_user_namespace() {
            HookError::UserNamespace
        } else if !missing.is_empty() {
            HookError::NoRight {
                missing: missing.join(", "),
            }
        } else {
            HookError::Denied {
                seccomp: !matches!(self.status_of("Seccomp:"), "0" | ""),
            }
        }
    }

    fn locked_down(&self) -> bool {
        self.lockdown.contains("[confidentiality]")
    }
}

impl HookError {
    /// What a failed bpf(2) means.
    pub(super) fn of_call(what: &'static str, source: io::Error) -> HookError {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Host::now().refusal(),
            _ => HookError::System { what, source },
        }
    }

    /// As [`HookError::of_call`], where it was about memory.
    pub(super) fn of_memory(bytes: usize, source: io::Error) -> HookError {
        match source.raw_os_error() {
            Some(libc::ENOMEM | libc::E2BIG) => HookError::Memory { bytes, source },
            _ => HookError::of_call("make the map of rings", source),
        }
    }

    /// Why a program was not loaded.
    pub(super) fn of_load(refused: Refused) -> HookError {
        let host = Host::now();
        if host.locked_down() {
            return HookError::Lockdown;
        }
        let denied = matches!(
            refused.source.raw_os_error(),
            Some(libc::EPERM | libc::EACCES)
        );
        let explained = denied && (host.in_user_namespace() || !host.missing().is_empty());
        if explained || refused.log.trim().is_empty() {
            return HookError::of_call("load the program", refused.source);
        }
        HookError::Verifier {
            source: refused.source,
            log: last_words(&refused.log),
        }
    }

    /// Why it was not attached.
    pub(super) fn of_attach(priority: i32, source: io::Error) -> HookError {
        match source.raw_os_error() {
            Some(libc::ERANGE) => HookError::Priority(priority),
            Some(libc::EBUSY) => HookError::PriorityTaken(priority),
            _ => HookError::of_call("attach the program", source),
        }
    }

    /// Why the kernel's types are not to be had.
    pub(super) fn of_types(path: &Path, source: BtfError) -> HookError {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        if before_6_4(&release) {
            return HookError::OldKernel(release.into_owned());
        }
        HookError::NoTypes {
            path: path.display().to_string(),
            source,
        }
    }

    /// Why the types lack what is needed.
    pub(super) fn of_missing(no_context: bool, source: BtfError) -> HookError {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        if no_context && before_6_4(&release) {
            HookError::OldKernel(release.into_owned())
        } else if no_context {
            HookError::NotBuilt
        } else {
            HookError::Types(source)
        }
    }
}

/// By the release's first two numbers; unknown is not before.
fn before_6_4(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (6, 4),
        _ => false,
    }
}

/// The end of what the verifier says, where the reason stands.
fn last_words(log: &str) -> String {
    let lines: Vec<_> = log
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("processed "))
        .collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(uid_map: &str, capabilities: u64, seccomp: u8) -> Host {
        Host {
            uid_map: uid_map.to_owned(),
            status: format!("Name:\tx\nCapEff:\t{capabilities:016x}\nSeccomp:\t{seccomp}\n"),
            lockdown: "none [integrity] confidentiality\n".to_owned(),
        }
    }

    #[test]
    fn a_refusal_is_explained_by_what_is_seen() {
        const INITIAL: &str = "         0          0 4294967295\n";
        const ALL: u64 = u64::MAX >> 23;
        let says = |host: Host| host.refusal().to_string();
        assert!(says(host("0 1000 1\n", ALL, 0)).contains("user namespace"));
        assert!(says(host(INITIAL, 0, 0)).contains("needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN;"));
        assert!(says(host(INITIAL, 1 << 12 | 1 << 39, 0)).contains("needs CAP_PERFMON;"));
        assert!(says(host(INITIAL, ALL, 2)).contains("filter of system calls"));
        assert!(says(host(INITIAL, ALL, 0)).contains("not known"));
        assert!(!host(INITIAL, ALL, 0).locked_down());
        assert!(says(Host::default()).contains("not known"));
    }

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for old in ["6.1.0-42-amd64", "5.15.1", "6.3.9"] {
            assert!(before_6_4(old), "{old}");
        }
        for new in ["6.4.0", "6.18.44-x", "7.0", "strange", ""] {
            assert!(!before_6_4(new), "{new}");
        }
    }

    #[test]
    fn the_verifier_s_last_lines_are_shown() {
        let log = "0: R1=ctx()\n1: (b7) r0 = 7\n\nR0 has value 7\nprocessed 2 insns\n";
        assert_eq!(
            last_words(log),
            "0: R1=ctx() / 1: (b7) r0 = 7 / R0 has value 7"
        );
        assert_eq!(last_words(""), "");
    }
}

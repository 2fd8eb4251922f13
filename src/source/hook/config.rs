//! What is to be captured at a hook, and how.

use std::path::PathBuf;
use std::str::FromStr;

use super::HookError;
use crate::packet::IpFamily;

/// A hook whose packets come in softirq, one at a time a processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HookPoint {
    /// Everything that comes in.
    #[default]
    Prerouting,
    /// What is for this host.
    Input,
    /// What is passed on.
    Forward,
}

impl HookPoint {
    /// `NF_INET_*`
    pub fn number(self) -> u8 {
        match self {
            HookPoint::Prerouting => 0,
            HookPoint::Input => 1,
            HookPoint::Forward => 2,
        }
    }
}

impl std::fmt::Display for HookPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
        })
    }
}

impl FromStr for HookPoint {
    type Err = HookError;

    fn from_str(name: &str) -> Result<Self, HookError> {
        match name {
            "prerouting" => Ok(HookPoint::Prerouting),
            "input" => Ok(HookPoint::Input),
            "forward" => Ok(HookPoint::Forward),
            "output" => Err(HookError::ProcessContext("output")),
            "postrouting" => Err(HookError::ProcessContext("postrouting")),
            other => Err(HookError::NoHook(other.to_owned())),
        }
    }
}

/// `NF_IP_PRI_FIRST`, at which the kernel lets no program stand.
const PRIORITY_FIRST: i32 = i32::MIN;
/// The thesis's place, as near as a program can come.
pub const PRIORITY_DEFAULT: i32 = PRIORITY_FIRST + 1;

/// Priorities that are tried where none is asked for: lwnflog's own rules stand at the first one.
pub const PRIORITIES_TRIED: i32 = 8;

/// Of each connection only the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutoff {
    /// So many, both directions together, counted from the IPv4 header on. The packet that goes
    /// beyond is captured as a whole.
    pub bytes: u64,
    /// So many connections are known at a time; of others everything is captured.
    pub connections: u32,
}

impl Cutoff {
    /// For 65,536 connections.
    pub fn new(bytes: u64) -> Cutoff {
        Cutoff {
            bytes,
            connections: 65_536,
        }
    }
}

/// How a hook is to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookConfig {
    /// Where.
    pub hook: HookPoint,
    /// Where among the others there: lower is earlier. `None` is the first that is free from
    /// [`PRIORITY_DEFAULT`] on (with a mark to look for, behind it), of [`PRIORITIES_TRIED`].
    pub priority: Option<i32>,
    /// Names of interfaces; none is all. An interface that comes later by a name is found.
    pub interfaces: Vec<String>,
    /// Only packets whose mark is the first under the second.
    pub mark: Option<(u32, u32)>,
    /// One packet in so many, by count, on each processor: 0 and 1 are all, until it is changed. `None`
    /// is all, for good.
    pub sample: Option<u32>,
    /// Of each connection only the first bytes.
    pub cutoff: Option<Cutoff>,
    /// At the hook of which family.
    pub family: IpFamily,
    /// Drops what passes the tests of interface and mark, captured or not: a host that only
    /// captures.
    pub drop: bool,
    /// Bytes to copy of each packet, from its IPv4 header on.
    pub copy_range_bytes: u32,
    /// All rings in sum. Each is the largest power of two that fits, and at least 4 MiB.
    pub buffer_bytes: usize,
    /// Processors that get a ring; `None` is those online.
    pub processors: Option<Vec<u32>>,
    /// The kernel's types.
    pub types: PathBuf,
}

impl HookConfig {
    /// The settings that need no tuning.
    pub fn new(hook: HookPoint, copy_range_bytes: u32) -> HookConfig {
        HookConfig {
            hook,
            priority: None,
            interfaces: Vec::new(),
            mark: None,
            sample: None,
            cutoff: None,
            family: IpFamily::default(),
            drop: false,
            copy_range_bytes,
            buffer_bytes: 64 << 20,
            processors: None,
            types: PathBuf::from("/sys/kernel/btf/vmlinux"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_where_processes_come_are_refused_with_the_reason() {
        for hook in [HookPoint::Prerouting, HookPoint::Input, HookPoint::Forward] {
            assert_eq!(hook.to_string().parse::<HookPoint>().unwrap(), hook);
        }
        for name in ["output", "postrouting"] {
            let error = name.parse::<HookPoint>().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("softirq"), "{error}");
        }
        let error = "ingress".parse::<HookPoint>().unwrap_err().to_string();
        assert!(error.contains("`ingress`"), "{error}");
    }
}

//! The tools compared: one file for each, with its best settings and the reason for them.

mod capacity;
mod dumpcap;
mod lwnflog;
mod netsniff;
mod nfqueue;
mod null;
mod ring;
mod tcpdump;
mod ulogd;
mod xdpdump;

use crate::say::say;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::child::Said;
use crate::cli::Common;
use crate::job::Job;

/// Where in the kernel a tool gets its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Hook {
    /// Nothing captures.
    #[serde(rename = "none")]
    None,
    /// nftables' `ingress`, in the netdev family.
    #[serde(rename = "nftables ingress")]
    Ingress,
    /// Netfilter's prerouting, by log messages.
    #[serde(rename = "Netfilter prerouting")]
    Prerouting,
    /// Netfilter's prerouting, by a program.
    #[serde(rename = "Netfilter prerouting, program")]
    Program,
    /// Netfilter's prerouting, by a queue with verdicts.
    #[serde(rename = "Netfilter queue")]
    Queue,
    /// The protocol handler hook.
    #[serde(rename = "protocol handler")]
    Protocol,
    /// The NIC driver.
    #[serde(rename = "NIC driver (XDP)")]
    Driver,
}

impl Hook {
    /// In a table's column.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Program => "hook",
            Self::Queue => "queue",
            Self::Protocol => "AF_PACKET",
            Self::Driver => "XDP",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ingress => "nftables ingress",
            Self::Prerouting => "Netfilter prerouting",
            Self::Program => "Netfilter prerouting, program",
            Self::Queue => "Netfilter queue",
            Self::Protocol => "protocol handler (AF_PACKET)",
            Self::Driver => "NIC driver (XDP)",
        }
    }

    pub(crate) fn detector(self) -> Detector {
        match self {
            Self::None | Self::Ingress | Self::Prerouting | Self::Program | Self::Queue => {
                Detector::Rule
            }
            Self::Protocol | Self::Driver => Detector::Interface,
        }
    }
}

/// How to tell that a tool receives packets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ready {
    /// These many NFLOG groups are bound.
    Groups(usize),
    /// The NFQUEUE queue is bound.
    Queues(usize),
    /// A packet socket is bound to the receiving interface.
    PacketSocket,
    /// It says so.
    Says(&'static str),
    /// Nothing to wait for.
    Now,
}

/// Who counts the packets that reached the tool's hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detector {
    /// The rule's counter.
    Rule,
    /// The interface's counter.
    Interface,
}

/// What a tool reports of itself, for all that it has received since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) captured: Option<u64>,
    pub(crate) lost: Option<u64>,
}

pub(crate) use capacity::ID as CAPACITY;
pub(crate) use lwnflog::{path as lwnflog_path, report as lwnflog_report, sum as lwnflog_sum};
pub(crate) use null::{claim as null_claim, invocation as null_reader};

/// A place for a tool to work in.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) job: &'a Job,
    /// For captures; what earlier runs of the tool wrote is still there.
    pub(crate) dir: PathBuf,
    /// For configuration.
    pub(crate) scratch: PathBuf,
    pub(crate) cpus: usize,
}

impl Site<'_> {
    /// A file for captures.
    pub(crate) fn capture(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn remove_captures(&self) -> Result<()> {
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("cannot remove {}", self.dir.display()))
    }
}

/// A command line.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
}

impl Invocation {
    fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
        }
    }

    fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Arguments without spaces in them, separated by spaces.
    fn args(mut self, args: &str) -> Self {
        self.args
            .extend(args.split_whitespace().map(OsString::from));
        self
    }

    /// As one would type it, with `dir` for the directory of captures.
    pub(crate) fn shown(&self, dir: &Path) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str());
        let words = std::iter::once(program).chain(self.args.iter().map(OsString::as_os_str));
        let words: Vec<_> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ").replace(&*dir.to_string_lossy(), "DIR")
    }
}

/// A tool that captures, or the row where none does.
pub(crate) trait Contender {
    /// Its name on the command line and in tables.
    fn id(&self) -> &'static str;
    fn hook(&self) -> Hook;
    /// The settings chosen and the reason.
    fn settings(&self) -> &'static str;
    /// The program and the Debian package it comes in; none for the capacity row.
    fn program(&self) -> Option<(PathBuf, &'static str)>;
    /// How it prints its version.
    fn version_flag(&self) -> &'static str {
        "--version"
    }
    /// Whether it can do this at all; why not, otherwise.
    fn refuses(&self, _job: &Job) -> Option<&'static str> {
        None
    }
    /// Whether it fails as root of a user namespace.
    fn needs_real_root(&self) -> bool {
        false
    }
    /// Whether it runs only where it is asked for by name.
    fn is_extra(&self) -> bool {
        false
    }
    /// With fewer sending processors its row would repeat another's; it runs then only if asked
    /// for.
    fn senders_min(&self) -> usize {
        1
    }
    /// The name of its ring, if its next run recycles the files of the last one.
    fn recycled_ring(&self) -> Option<&'static str> {
        None
    }
    /// The rules of the receiving namespace.
    fn rules(&self, site: &Site<'_>) -> Result<String>;
    /// Further commands that set up the receiving namespace, each to succeed.
    fn prepare(&self) -> Vec<Invocation> {
        Vec::new()
    }
    /// How to start it.
    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>>;
    fn ready(&self, site: &Site<'_>) -> Ready;
    /// How long packets may stay in the kernel before they are handed over.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
    fn claim(&self, said: &Said) -> Claim;
}

/// All of them, in the order of the tables.
pub(crate) fn all(common: &Common) -> Vec<Box<dyn Contender>> {
    let lwnflog = lwnflog::path(common.lwnflog.as_deref());
    let own = |variant| {
        Box::new(lwnflog::Lwnflog {
            path: lwnflog.clone(),
            variant,
        })
    };
    let in_turn = |id, groups| own(lwnflog::Variant::InTurn { id, groups });
    let queue = |fanout| {
        Box::new(nfqueue::LwnflogQueue {
            path: lwnflog.clone(),
            fanout,
        })
    };
    vec![
        Box::new(capacity::Capacity),
        own(lwnflog::Variant::OneGroup),
        own(lwnflog::Variant::Hook),
        own(lwnflog::Variant::GroupPerCpu),
        own(lwnflog::Variant::Ingress),
        in_turn("lwnflog-2-groups", 2),
        in_turn("lwnflog-4-groups", 4),
        in_turn("lwnflog-8-groups", 8),
        Box::new(null::Null),
        Box::new(ulogd::Ulogd),
        Box::new(tcpdump::Tcpdump { nflog: true }),
        Box::new(dumpcap::Dumpcap { nflog: true }),
        queue(false),
        queue(true),
        Box::new(nfqueue::TcpdumpQueue),
        Box::new(tcpdump::Tcpdump { nflog: false }),
        Box::new(dumpcap::Dumpcap { nflog: false }),
        Box::new(netsniff::Netsniff),
        Box::new(ring::RingReader::Packet),
        Box::new(xdpdump::Xdpdump),
        Box::new(ring::RingReader::Xdp),
    ]
}

/// Those that were asked for, and always the capacity row.
pub(crate) fn chosen(common: &Common, names: &[String]) -> Result<Vec<Box<dyn Contender>>> {
    let mut tools = all(common);
    for name in names {
        if !tools.iter().any(|tool| tool.id() == name) {
            let known: Vec<_> = tools.iter().map(|tool| tool.id()).collect();
            bail!("no tool is called {name}: there are {}", known.join(", "));
        }
    }
    if names.is_empty() {
        tools.retain(|tool| !tool.is_extra());
    } else {
        tools
            .retain(|tool| tool.id() == capacity::ID || names.iter().any(|name| tool.id() == name));
    }
    Ok(tools)
}

/// Why a tool cannot run here; none if it can.
pub(crate) fn missing(tool: &dyn Contender, is_real_root: bool) -> Option<String> {
    let (program, package) = tool.program()?;
    if find(&program).is_none() {
        return Some(format!(
            "{} not found: install {package}",
            program.display()
        ));
    }
    (tool.needs_real_root() && !is_real_root).then(|| "needs root, not a user namespace".to_owned())
}

/// Where a program is, as the shell would look for it, and where Debian puts those of root.
pub(crate) fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Prints what `lwnflog-bench tools` promises.
pub(crate) fn describe(common: &Common) -> Result<()> {
    for tool in all(common) {
        let state =
            missing(&*tool, true).map_or_else(String::new, |reason| format!(" -- {reason}"));
        say!(
            "{} [{}]{state}\n    {}\n",
            tool.id(),
            tool.hook().name(),
            tool.settings()
        );
    }
    Ok(())
}

/// The number before `words` in a text: `12 packets captured`.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let (before, _) = text.split_once(words)?;
    before.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_before_words() {
        let text = "x\n12 packets captured\n7 packets dropped by kernel\n";
        assert_eq!(number_before(text, "packets captured"), Some(12));
        assert_eq!(number_before(text, "packets dropped by kernel"), Some(7));
        assert_eq!(number_before(text, "packets received"), None);
    }
}

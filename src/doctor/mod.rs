//! What keeps packets from being captured, or has them lost: looked at, told in words, worst first,
//! each with what mends it.
//!
//! It reads: `/proc`, `/sys`, the rules, what `nft` and `ethtool` list, the figures of captures that run. It changes nothing, binds
//! nothing, loads nothing; how fast the disk is, is measured with a few megabytes in a file without
//! a name (where the file system has no such, its name is gone at once).

mod blind;
mod claim;
mod disk;
mod group;
mod host;
mod kernel;
mod links;
mod reach;
mod rules;
mod ruleset;
mod running;
mod way;

pub use blind::{of_rules, past_the_hook};

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use crate::packet::IpFamily;
use crate::sys::capabilities;

/// How bad a finding is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is captured so, or most of it is lost.
    Error,
    /// Something is lost, passes unseen, or may.
    Warning,
    /// Good to know.
    Note,
    /// Looked at, and as it should be.
    Fine,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A name for programs that stays.
    pub id: &'static str,
    /// What is so.
    pub what: String,
    /// Why it matters.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub why: &'static str,
    /// The command that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(severity: Severity, id: &'static str, what: impl Into<String>) -> Finding {
        Finding {
            severity,
            id,
            what: what.into(),
            why: "",
            remedy: None,
        }
    }

    fn error(id: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, id, what)
    }

    fn warning(id: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, id, what)
    }

    fn note(id: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, id, what)
    }

    fn fine(id: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Fine, id, what)
    }

    fn because(self, why: &'static str) -> Finding {
        Finding { why, ..self }
    }

    fn mend(self, remedy: impl Into<String>) -> Finding {
        Finding {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// What is to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The NFLOG group; `None` for the hook itself, or for any.
    pub group: Option<u16>,
    /// The hook itself.
    pub hook: bool,
    /// Which packets are recorded.
    pub family: IpFamily,
    /// Where the files are to be.
    pub dir: Option<PathBuf>,
}

/// Looks at everything. The worst comes first.
pub fn examine(case: &Case) -> Vec<Finding> {
    let heard = running::ask();
    let mut findings = kernel::examine(case);
    if !case.hook {
        findings.extend(group::examine(case, &heard));
        findings.extend(rules::examine(case, &heard.received()));
    }
    findings.extend(heard.findings());
    findings.extend(blind::examine());
    findings.extend(links::examine());
    findings.extend(host::examine());
    findings.extend(disk::examine(case, heard.bytes_a_second()));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// The text of a file of `/proc` or `/sys`, trimmed; `None` where it cannot be read.
fn text(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// What a program prints, where it is installed and succeeds. It has the rights that this one has by its
/// file's capabilities, too.
fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = capabilities::lending(|| {
        std::process::Command::new(program)
            .args(args)
            .env("PATH", capabilities::trusted_path())
            .output()
    });
    let output = output.ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(printed)
}

impl Case {
    /// The options that say what is to be captured.
    fn words(&self) -> String {
        match self.group {
            Some(group) => format!("--group {group}"),
            None if self.hook => "--hook".to_owned(),
            None => "--group 5 --install-rule".to_owned(),
        }
    }
}

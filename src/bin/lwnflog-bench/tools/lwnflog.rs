//! lwnflog itself, run as anyone would run it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use lwnflog::lab::RX;

use super::{Claim, Contender, Hook, Invocation, Ready, Site};
use crate::child::Said;
use crate::job::Test;
use crate::rules::{self, GROUP};

/// Which rules feed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    OneGroup,
    GroupPerCpu,
    Ingress,
    /// No rule: the program at the hook.
    Hook,
    /// The packets are dealt out to so many groups.
    InTurn {
        id: &'static str,
        groups: usize,
    },
}

impl Variant {
    fn groups(self, cpus: usize) -> Vec<u16> {
        let count = match self {
            Self::OneGroup | Self::Ingress | Self::Hook => 1,
            Self::GroupPerCpu => cpus.max(1),
            Self::InTurn { groups, .. } => groups,
        };
        (GROUP..).take(count).collect()
    }
}

pub(crate) struct Lwnflog {
    pub(crate) path: PathBuf,
    pub(crate) variant: Variant,
}

/// The one asked for, or the one beside this program, or the one on the PATH.
pub(crate) fn path(asked: Option<&Path>) -> PathBuf {
    if let Some(path) = asked {
        return path.to_owned();
    }
    let beside = std::env::current_exe()
        .ok()
        .map(|exe| exe.with_file_name("lwnflog"));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("lwnflog"))
}

/// The last line of `--json` output that is a report.
pub(crate) fn report(said: &Said) -> Option<serde_json::Value> {
    let lines = said.stdout.lines().rev();
    let objects = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    objects
        .into_iter()
        .find(|object| object["event"] == "report")
}

/// The sum of the figures of an object, or the figure itself.
pub(crate) fn sum(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Object(fields) => fields.values().map(serde_json::Value::as_u64).sum(),
        other => other.as_u64(),
    }
}

impl Contender for Lwnflog {
    fn id(&self) -> &'static str {
        match self.variant {
            Variant::OneGroup => "lwnflog",
            Variant::GroupPerCpu => "lwnflog-percpu",
            Variant::Ingress => "lwnflog-ingress",
            Variant::Hook => "lwnflog-hook",
            Variant::InTurn { id, .. } => id,
        }
    }

    fn hook(&self) -> Hook {
        match self.variant {
            Variant::Ingress => Hook::Ingress,
            Variant::Hook => Hook::Program,
            _ => Hook::Prerouting,
        }
    }

    fn settings(&self) -> &'static str {
        match self.variant {
            Variant::OneGroup => {
                "Its defaults, with the ring and the snap length of all the others. The rule has no \
                 snap length: the tool sets it."
            }
            Variant::GroupPerCpu => {
                "As lwnflog, with one group and one capturing thread for each processor, so that \
                 processors do not wait for the lock of one group."
            }
            Variant::Ingress => {
                "As lwnflog, with the rule in the netdev family's ingress hook, before the IPv4 layer."
            }
            Variant::Hook => {
                "Its defaults with --hook: a verified program at the hook copies into mapped rings. A rule \
                 behind it counts and drops."
            }
            Variant::InTurn { .. } => {
                "As lwnflog, with the packets dealt out to several groups in turn: whether a packet costs \
                 more when there are more of them."
            }
        }
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some((
            self.path.clone(),
            "it with `cargo build --release`, or name it with --lwnflog",
        ))
    }

    fn is_extra(&self) -> bool {
        matches!(self.variant, Variant::InTurn { .. })
    }

    fn senders_min(&self) -> usize {
        match self.variant {
            Variant::GroupPerCpu => 2,
            _ => 1,
        }
    }

    fn recycled_ring(&self) -> Option<&'static str> {
        Some(match self.variant {
            Variant::OneGroup | Variant::Ingress => "lwnflog",
            Variant::Hook => "prerouting",
            _ => self.id(),
        })
    }

    fn needs_real_root(&self) -> bool {
        self.variant == Variant::Hook
    }

    fn rules(&self, site: &Site<'_>) -> Result<String> {
        let groups = self.variant.groups(site.cpus);
        match self.variant {
            Variant::OneGroup | Variant::GroupPerCpu => rules::lwnflog(&groups),
            Variant::Ingress => Ok(rules::lwnflog_at_ingress()),
            Variant::Hook => Ok(rules::count_and_drop_behind()),
            Variant::InTurn { .. } => Ok(rules::lwnflog_in_turn(&groups)),
        }
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let groups = self.variant.groups(site.cpus);
        if self.variant == Variant::Hook {
            // It says when it is there: no file of /proc does.
            let mut invocation = invocation(&self.path, &format!("--hook --iface {RX}"), site);
            invocation.args.retain(|arg| arg != "--quiet");
            return Ok(Some(invocation));
        }
        let groups: Vec<String> = groups.iter().map(u16::to_string).collect();
        Ok(Some(invocation(
            &self.path,
            &format!("--group {}", groups.join(",")),
            site,
        )))
    }

    fn ready(&self, site: &Site<'_>) -> Ready {
        match self.variant {
            Variant::Hook => Ready::Says("capturing hook"),
            _ => Ready::Groups(self.variant.groups(site.cpus).len()),
        }
    }

    /// Its flush timeout is at most this.
    fn delay(&self) -> Duration {
        Duration::from_millis(150)
    }

    fn claim(&self, said: &Said) -> Claim {
        claim(said)
    }
}

/// The command line: its source, and what all others have in common.
pub(super) fn invocation(path: &Path, source: &str, site: &Site<'_>) -> Invocation {
    let ring = site.job.ring;
    let snap_len = site.job.snap_len();
    let invocation =
        Invocation::new(path).args(&format!("{source} --json --quiet --snaplen {snap_len}"));
    match site.job.test {
        Test::Capacity | Test::Counting => invocation.arg("--discard"),
        Test::Writing | Test::Whole => invocation
            .args(&format!(
                "--file-size {}MB --files {}",
                ring.megabytes_per_file, ring.files
            ))
            // The others make none.
            .arg("--no-index")
            .arg("-w")
            .arg(&site.dir),
    }
}

/// What its report says.
pub(super) fn claim(said: &Said) -> Claim {
    let Some(report) = report(said) else {
        return Claim::default();
    };
    Claim {
        captured: report["received"].as_u64(),
        lost: sum(&report["dropped"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_counts() {
        let said = Said {
            stdout: "{\"event\":\"stats\",\"received\":1}\n\
                     {\"event\":\"report\",\"received\":7,\"dropped\":{\"overrun\":2,\"writer\":3}}\n"
                .to_owned(),
            stderr: String::new(),
        };
        let tool = Lwnflog {
            path: PathBuf::new(),
            variant: Variant::OneGroup,
        };
        assert_eq!(
            tool.claim(&said),
            Claim {
                captured: Some(7),
                lost: Some(5)
            }
        );
        assert_eq!(tool.claim(&Said::default()), Claim::default());
    }
}

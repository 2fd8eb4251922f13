//! tcpdump, at the protocol handler hook and on an NFLOG group.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lwnflog::lab::RX;

use super::{Claim, Contender, Hook, Invocation, Ready, Site, number_before};
use crate::child::Said;
use crate::rules::{self, GROUP};

pub(crate) struct Tcpdump {
    pub(crate) nflog: bool,
}

/// The command line: its source, and what all others have in common.
pub(super) fn invocation(source: &str, site: &Site<'_>) -> Invocation {
    let invocation = Invocation::new("tcpdump").args(&format!("-n -B 65536 -Z root {source}"));
    let ring = site.job.ring;
    if site.job.test.writes() {
        invocation
            .args(&format!(
                "-C {} -W {} -w",
                ring.megabytes_per_file, ring.files
            ))
            .arg(site.capture("ring.pcap"))
    } else {
        invocation.args("-w /dev/null")
    }
}

/// What it prints at the end.
pub(super) fn claim(said: &Said) -> Claim {
    Claim {
        captured: number_before(&said.stderr, "packets captured"),
        lost: number_before(&said.stderr, "packets dropped by kernel"),
    }
}

impl Contender for Tcpdump {
    fn id(&self) -> &'static str {
        if self.nflog {
            "tcpdump-nflog"
        } else {
            "tcpdump"
        }
    }

    fn hook(&self) -> Hook {
        if self.nflog {
            Hook::Prerouting
        } else {
            Hook::Protocol
        }
    }

    fn settings(&self) -> &'static str {
        if self.nflog {
            "The default snap length, as a small one makes libpcap's buffer so small that most of each \
             message is lost; the rule limits what the kernel copies instead. Link type IPV4, which \
             saves libpcap's 100 bytes of attributes a packet; 64 MiB buffer."
        } else {
            "64 MiB buffer (its default is 2 MiB), no name lookups, stays root so that it may write the \
             ring, files of 200 MB in a ring."
        }
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some(("tcpdump".into(), "tcpdump"))
    }

    /// It changes to the user it runs as, groups included, which a user namespace forbids.
    fn needs_real_root(&self) -> bool {
        true
    }

    fn rules(&self, site: &Site<'_>) -> Result<String> {
        if self.nflog {
            Ok(rules::log(site.job.ip_snap_len()))
        } else {
            Ok(rules::count_and_drop())
        }
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let source = if self.nflog {
            format!("-i nflog:{GROUP} -y IPV4")
        } else {
            format!("-i {RX} -s {}", site.job.snap_len())
        };
        Ok(Some(invocation(&source, site)))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        if self.nflog {
            Ready::Groups(1)
        } else {
            Ready::PacketSocket
        }
    }

    /// The kernel's default flush timeout, or libpcap's read timeout.
    fn delay(&self) -> Duration {
        Duration::from_millis(1_100)
    }

    fn claim(&self, said: &Said) -> Claim {
        claim(said)
    }
}

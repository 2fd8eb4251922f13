//! dumpcap, Wireshark's capture program, at the protocol handler hook and on an NFLOG group.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lwnflog::lab::RX;

use super::{Claim, Contender, Hook, Invocation, Ready, Site};
use crate::child::Said;
use crate::rules::{self, GROUP};

pub(crate) struct Dumpcap {
    pub(crate) nflog: bool,
}

impl Contender for Dumpcap {
    fn id(&self) -> &'static str {
        if self.nflog {
            "dumpcap-nflog"
        } else {
            "dumpcap"
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
            "As dumpcap, with the default snap length and link type IPV4 for the reasons given at \
             tcpdump-nflog. Its select loop does not know of packets that libpcap already holds: the \
             tail of the last message is lost."
        } else {
            "64 MiB buffer, pcap rather than pcapng (16 bytes a packet less), no running count, a ring \
             of 200 MB files."
        }
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some(("dumpcap".into(), "wireshark-common"))
    }

    fn rules(&self, site: &Site<'_>) -> Result<String> {
        if self.nflog {
            Ok(rules::log(site.job.ip_snap_len()))
        } else {
            Ok(rules::count_and_drop())
        }
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let common = Invocation::new("dumpcap").args("-q -P -B 64");
        let source = if self.nflog {
            common.args(&format!("-i nflog:{GROUP} -y IPV4"))
        } else {
            common.args(&format!("-i {RX} -s {}", site.job.snap_len()))
        };
        let ring = site.job.ring;
        Ok(Some(if site.job.test.writes() {
            let kilobytes = ring.megabytes_per_file * 1000;
            source
                .args(&format!(
                    "-b filesize:{kilobytes} -b files:{} -w",
                    ring.files
                ))
                .arg(site.capture("ring.pcap"))
        } else {
            source.args("-w /dev/null")
        }))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        if self.nflog {
            Ready::Groups(1)
        } else {
            Ready::PacketSocket
        }
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(1_100)
    }

    fn claim(&self, said: &Said) -> Claim {
        claim(&said.stderr)
    }
}

/// `Packets received/dropped on interface 'rx': 100/5 (pcap:5/dumpcap:0/flushed:0/ps_ifdrop:0) (95.2%)`
fn claim(text: &str) -> Claim {
    let figures = text
        .split_once("Packets received/dropped on interface")
        .and_then(|(_, rest)| {
            let (_, rest) = rest.split_once("': ")?;
            let (received, rest) = rest.split_once('/')?;
            let dropped = rest.split_whitespace().next()?;
            Some((received.trim().parse().ok()?, dropped.parse().ok()?))
        });
    Claim {
        captured: figures.map(|(received, _)| received),
        lost: figures.map(|(_, lost)| lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_last_line_is_understood() {
        let text = "Packets captured: 100\nPackets received/dropped on interface 'rx': 100/5 \
                    (pcap:5/dumpcap:0/flushed:0/ps_ifdrop:0) (95.2%)\n";
        assert_eq!(
            claim(text),
            Claim {
                captured: Some(100),
                lost: Some(5)
            }
        );
        assert_eq!(claim("File: x"), Claim::default());
    }
}

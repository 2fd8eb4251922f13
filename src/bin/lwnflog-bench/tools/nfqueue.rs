//! tcpdump on an NFQUEUE queue: every packet waits for its verdict.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lwnflog::lab::RX;

use super::{Claim, Contender, Detector, Hook, Invocation, Ready, Site, tcpdump};
use crate::child::Said;

pub(crate) struct TcpdumpQueue;

/// The queue's number.
const QUEUE: u16 = 5;

impl Contender for TcpdumpQueue {
    fn id(&self) -> &'static str {
        "tcpdump-nfqueue"
    }

    fn hook(&self) -> Hook {
        Hook::Queue
    }

    fn settings(&self) -> &'static str {
        "Link type and snap length are fixed by libpcap; 64 MiB buffer. The rule bypasses the queue \
         while nobody listens, and what has been accepted is dropped by a later rule."
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some(("tcpdump".into(), "tcpdump"))
    }

    /// It changes to the user it runs as, groups included, which a user namespace forbids.
    fn needs_real_root(&self) -> bool {
        true
    }

    /// Counts before the queue; what tcpdump accepts is dropped after it.
    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        Ok(format!(
            "table ip lwnflog {{
                counter detected {{ }}
                chain before {{
                    type filter hook prerouting priority -2147483648; policy accept;
                    iifname \"{RX}\" counter name detected
                }}
                chain after {{
                    type filter hook prerouting priority -100; policy accept;
                    iifname \"{RX}\" drop
                }}
            }}"
        ))
    }

    fn prepare(&self) -> Vec<Invocation> {
        let rule =
            format!("-t raw -A PREROUTING -i {RX} -j NFQUEUE --queue-num {QUEUE} --queue-bypass");
        vec![Invocation::new("iptables-nft").args(&rule)]
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let source =
            Invocation::new("tcpdump").args(&format!("-n -B 65536 -Z root -i nfqueue:{QUEUE}"));
        let ring = site.job.ring;
        Ok(Some(if site.job.test.writes() {
            source
                .args(&format!(
                    "-C {} -W {} -w",
                    ring.megabytes_per_file, ring.files
                ))
                .arg(site.capture("ring.pcap"))
        } else {
            source.args("-w /dev/null")
        }))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::Queue
    }

    fn detector(&self) -> Detector {
        Detector::Rule
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn claim(&self, said: &Said) -> Claim {
        tcpdump::claim(said)
    }
}

#[cfg(test)]
mod tests {
    use lwnflog::lab::Lab;

    use super::*;
    use crate::rules;

    #[test]
    fn its_rules_load() {
        let lab = Lab::new().unwrap();
        let job = crate::job::Job::new(crate::job::Test::Writing, 64, 1, 1);
        let dir = std::path::Path::new("/");
        let site = Site {
            job: &job,
            dir,
            scratch: dir,
            cpus: 2,
        };
        rules::load(lab.receiver(), &TcpdumpQueue.rules(&site).unwrap()).unwrap();
    }
}

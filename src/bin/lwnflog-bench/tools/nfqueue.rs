//! On an NFQUEUE queue, where every packet waits for its verdict: tcpdump, and lwnflog itself with
//! one queue or one for each processor.

use std::path::PathBuf;
use std::time::Duration;

use ::lwnflog::lab::RX;
use anyhow::Result;

use super::{Claim, Contender, Hook, Invocation, Ready, Site, lwnflog, tcpdump};
use crate::child::Said;

/// The first queue's number.
const QUEUE: u16 = 5;

/// Counts before the queue; what is accepted is dropped after it.
fn rules() -> String {
    format!(
        "table ip lwnflog {{
            counter detected {{ }}
            chain before {{
                type filter hook prerouting priority -2147483647; policy accept;
                iifname \"{RX}\" counter name detected
            }}
            chain after {{
                type filter hook prerouting priority -100; policy accept;
                iifname \"{RX}\" drop
            }}
        }}"
    )
}

/// The rule in between: one queue, or several by processor.
fn queue_rule(queues: usize) -> Vec<Invocation> {
    let target = match queues {
        0 | 1 => format!("--queue-num {QUEUE}"),
        more => format!(
            "--queue-balance {QUEUE}:{} --queue-cpu-fanout",
            usize::from(QUEUE) + more - 1
        ),
    };
    let rule = format!("-t raw -A PREROUTING -i {RX} -j NFQUEUE {target} --queue-bypass");
    vec![Invocation::new("iptables-nft").args(&rule)]
}

/// lwnflog itself.
pub(crate) struct LwnflogQueue {
    pub(crate) path: PathBuf,
    /// A queue for each processor.
    pub(crate) fanout: bool,
}

impl LwnflogQueue {
    fn queues(&self) -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        if self.fanout { cpus } else { 1 }
    }
}

impl Contender for LwnflogQueue {
    fn id(&self) -> &'static str {
        if self.fanout {
            "lwnflog-nfqueue-percpu"
        } else {
            "lwnflog-nfqueue"
        }
    }

    fn senders_min(&self) -> usize {
        if self.fanout { 2 } else { 1 }
    }

    fn recycled_ring(&self) -> Option<&'static str> {
        Some(self.id())
    }

    fn hook(&self) -> Hook {
        Hook::Queue
    }

    fn settings(&self) -> &'static str {
        "As lwnflog on a group; its queue, fail-open, has the default length. The rules are those of \
         tcpdump on a queue."
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some((
            self.path.clone(),
            "it with `cargo build --release`, or name it with --lwnflog",
        ))
    }

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        Ok(rules())
    }

    fn prepare(&self) -> Vec<Invocation> {
        queue_rule(self.queues())
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let last = usize::from(QUEUE) + self.queues() - 1;
        Ok(Some(lwnflog::invocation(
            &self.path,
            &format!("--queue {QUEUE}-{last}"),
            site,
        )))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::Queues(self.queues())
    }

    fn claim(&self, said: &Said) -> Claim {
        lwnflog::claim(said)
    }
}

pub(crate) struct TcpdumpQueue;

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

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        Ok(rules())
    }

    fn prepare(&self) -> Vec<Invocation> {
        queue_rule(1)
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let source = format!("-i nfqueue:{QUEUE}");
        Ok(Some(tcpdump::invocation(&source, site)))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::Queues(1)
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
    use ::lwnflog::lab::Lab;

    use super::*;
    use crate::rules;

    #[test]
    fn its_rules_load() {
        let lab = Lab::new().unwrap();
        let job = crate::job::Job::new(crate::job::Test::Writing, 64, 1, 1);
        let site = Site {
            job: &job,
            dir: PathBuf::from("/"),
            scratch: PathBuf::from("/"),
            cpus: 2,
        };
        rules::load(lab.receiver(), &TcpdumpQueue.rules(&site).unwrap()).unwrap();
    }
}

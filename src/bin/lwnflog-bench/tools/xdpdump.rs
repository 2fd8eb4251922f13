//! xdpdump: capture in the NIC driver, the thesis's third hook.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lwnflog::lab::RX;

use super::{Claim, Contender, Hook, Invocation, Ready, Site, number_before};
use crate::child::Said;
use crate::rules;

pub(crate) struct Xdpdump;

impl Contender for Xdpdump {
    fn id(&self) -> &'static str {
        "xdpdump"
    }

    fn hook(&self) -> Hook {
        Hook::Driver
    }

    fn settings(&self) -> &'static str {
        "Its own XDP program in the driver, pcap rather than pcapng, default wake-up. It has no ring: \
         one file grows. A BPF file system of its own keeps its pins off the host's."
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some(("xdpdump".into(), "xdp-tools"))
    }

    fn needs_real_root(&self) -> bool {
        true
    }

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        Ok(rules::count_and_drop())
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let file = if site.job.test.writes() {
            site.capture("xdpdump.pcap")
        } else {
            "/dev/null".into()
        };
        let script = "mkdir -p /sys/fs/bpf; mount -t bpf bpf /sys/fs/bpf && exec \"$@\"";
        Ok(Some(
            Invocation::new("unshare")
                .args("--mount sh -c")
                .arg(script)
                .args(&format!("sh xdpdump -i {RX} --load-xdp-program --use-pcap"))
                .args(&format!("-s {} -w", site.job.snap_len()))
                .arg(file),
        ))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::Says("listening on")
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn claim(&self, said: &Said) -> Claim {
        let all = said.all();
        Claim {
            captured: number_before(&all, "packets captured"),
            lost: number_before(&all, "packets dropped by perf ring"),
        }
    }
}

//! netsniff-ng with its mmap writer: the closest relative of the thesis's turbo-tcpdump.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use lwnflog::lab::RX;

use super::{Claim, Contender, Hook, Invocation, Ready, Site, number_before};
use crate::child::Said;
use crate::rules;

pub(crate) struct Netsniff;

impl Contender for Netsniff {
    fn id(&self) -> &'static str {
        "netsniff-ng"
    }

    fn hook(&self) -> Hook {
        Hook::Protocol
    }

    fn settings(&self) -> &'static str {
        "mmap writer, 64 MiB ring in the kernel, silent, a ring of 190 MiB files. It has no snap \
         length: a BPF program that returns it cuts the packets. -A keeps it from changing the host's \
         sysctls; its buffer is mapped, so that they do not matter."
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some(("netsniff-ng".into(), "netsniff-ng"))
    }

    /// It locks its memory, beyond what an ordinary user may.
    fn needs_real_root(&self) -> bool {
        true
    }

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        Ok(rules::count_and_drop())
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        // BPF_RET | BPF_K: accept so many bytes of every packet.
        let filter = site.scratch.join("snap.bpf");
        fs::write(
            &filter,
            format!("{{ 0x6, 0, 0, {:#010x} }},\n", site.job.snap_len()),
        )
        .with_context(|| format!("cannot write {}", filter.display()))?;
        let source = Invocation::new("netsniff-ng")
            .args(&format!("-i {RX} -s -A -S 64MiB"))
            .arg("-f")
            .arg(filter);
        let ring = site.job.ring;
        Ok(Some(if site.job.test.writes() {
            let mebibytes = ring.megabytes_per_file * 1_000_000 / (1 << 20);
            source
                .args(&format!("-m -F {mebibytes}MiB -O {} -o", ring.files))
                .arg(&site.dir)
        } else {
            source
        }))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::PacketSocket
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn claim(&self, said: &Said) -> Claim {
        let all = said.all();
        Claim {
            captured: number_before(&all, "packets passed filter"),
            lost: number_before(&all, "packets failed filter"),
        }
    }
}

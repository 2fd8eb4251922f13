//! The least a reader of an NFLOG group can do: the floor under every other.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Claim, Contender, Hook, Invocation, Ready, Site, number_before};
use crate::child::Said;
use crate::job::{Job, Test};
use crate::rules::{self, GROUP};

pub(crate) struct Null;

/// This program's hidden command, which `readers/null.rs` carries out.
pub(crate) fn invocation(group: u16, copy: usize) -> Result<Invocation> {
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(Invocation::new(program).args(&format!("null-reader --group {group} --copy {copy}")))
}

/// What it prints at the end.
pub(crate) fn claim(said: &Said) -> Claim {
    Claim {
        captured: number_before(&said.stdout, "messages received"),
        lost: None,
    }
}

impl Contender for Null {
    fn id(&self) -> &'static str {
        "null-reader"
    }

    fn hook(&self) -> Hook {
        Hook::Prerouting
    }

    fn settings(&self) -> &'static str {
        "A loop of this benchmark that receives messages, counts them and does nothing else: 128 KiB \
         messages of up to 1024 packets, a 64 MiB buffer."
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        std::env::current_exe()
            .ok()
            .map(|path| (path, "lwnflog-bench"))
    }

    fn refuses(&self, job: &Job) -> Option<&'static str> {
        (job.test != Test::Counting).then_some("it writes nothing")
    }

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        rules::lwnflog(&[GROUP])
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        Ok(Some(invocation(GROUP, site.job.ip_snap_len())?))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::Groups(1)
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(150)
    }

    fn claim(&self, said: &Said) -> Claim {
        claim(said)
    }
}

//! The row without a tool: what the sender, the cable, the stack and a rule cost by themselves.

use std::path::PathBuf;

use anyhow::Result;

use super::{Claim, Contender, Hook, Invocation, Ready, Site};
use crate::child::Said;
use crate::job::{Job, Test};
use crate::rules;

pub(crate) const ID: &str = "nftables-counter";

pub(crate) struct Capacity;

impl Contender for Capacity {
    fn id(&self) -> &'static str {
        ID
    }

    fn hook(&self) -> Hook {
        Hook::None
    }

    fn settings(&self) -> &'static str {
        "A rule at prerouting counts and drops: what all the other rows cost is more than this."
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        None
    }

    fn refuses(&self, job: &Job) -> Option<&'static str> {
        (job.test != Test::Capacity).then_some("it does not capture")
    }

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        Ok(rules::count_and_drop())
    }

    fn invocation(&self, _site: &Site<'_>) -> Result<Option<Invocation>> {
        Ok(None)
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::Now
    }

    fn claim(&self, _said: &Said) -> Claim {
        Claim::default()
    }
}

//! Where the hook is blind, or has packets twice, though the rules say nothing of it.

use std::time::{Duration, Instant};

use super::Finding;
use crate::nft::{self, Flowtable, LoggingRule};
use crate::session::Session;
use crate::session::settings::{Settings, SourceSettings};
use crate::source::links::{self, Link};
use crate::source::{Target, ingress};

/// A capture that begins waits no longer for a look at rules of others.
const LOOK_MAX: Duration = Duration::from_millis(300);

/// What passes the hook by, whatever the source.
pub(super) fn examine() -> Vec<Finding> {
    let links = links::all().unwrap_or_default();
    let flowtables = nft::flowtables(Instant::now() + LOOK_MAX).unwrap_or_default();
    let mut findings: Vec<_> = flowtables.iter().map(flowtable).collect();
    findings.extend(ingress(&links));
    findings
}

fn flowtable(
    Flowtable {
        named,
        devices,
        in_hardware,
    }: &Flowtable,
) -> Finding {
    let how = match in_hardware {
        true => "in the devices themselves",
        false => "past the hooks",
    };
    let what = format!(
        "the flowtable {named} has packets of known connections that come by {} forwarded {how}",
        devices.join(", ")
    );
    Finding::warning("flowtable", what)
        .because("of such a connection only the first packets are captured, whatever tool captures at a hook of IP")
}

fn ingress(links: &[Link]) -> Vec<Finding> {
    let found = ingress::before_hooks(links).into_iter();
    let told = found.map(|(link, before)| {
        let what = format!("{before} at the ingress of `{}` has its packets first", link.name);
        Finding::warning("ingress", what)
            .because("what it drops, redirects or forwards does not come to the hook, and is in no account here")
    });
    told.collect()
}

/// What passes the hook by, of a capture that begins: a line each.
pub fn past_the_hook() -> Vec<String> {
    let told = examine().into_iter();
    told.map(|finding| format!("{}: {}", finding.what, finding.why))
        .collect()
}

/// What its rules do not do, or do twice: a line each.
pub fn of_rules(session: &Session) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in session.rules() {
        if let Some(asleep) = rule.asleep {
            lines.push(format!("{rule} logs nothing: {asleep}"));
        }
        for asks in &rule.early {
            lines.push(format!("{rule} asks for {asks}"));
        }
    }
    let settings = session.settings();
    if let SourceSettings::Numbers(target, numbers) = &settings.source {
        for other in beside(settings, *target, numbers) {
            lines.push(format!(
                "{other} hands packets to {target} {} as well: what both rules select comes twice",
                other.number
            ));
        }
    }
    lines
}

/// Rules of others for the groups of a capture that has brought its own.
fn beside(settings: &Settings, target: Target, numbers: &[u16]) -> Vec<LoggingRule> {
    let Some(request) = &settings.rule else {
        return Vec::new();
    };
    let own = (request.family, request.table(target, numbers));
    let deadline = Instant::now() + LOOK_MAX;
    nft::logging_rules_beside(target, numbers, (own.0, &own.1), deadline).unwrap_or_default()
}

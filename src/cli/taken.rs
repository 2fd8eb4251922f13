//! What a capture takes, for the line it begins with: which packets, and how much of each.

use crate::nft::LoggingRule;
use crate::packet::IpFamily;
use crate::session::Session;
use crate::session::settings::{Settings, SourceSettings};

/// `IPv4 that arrives, the first 128 bytes of each packet (more: --family both, --at, -s 0)`.
pub(super) fn taken(session: &Session) -> String {
    let settings = session.settings();
    let hooks = match &settings.source {
        SourceSettings::Hook(options) => vec![options.hook.to_string()],
        SourceSettings::Numbers(..) => hooks(settings, session.rules()),
    };
    describe(settings, &hooks)
}

fn describe(settings: &Settings, hooks: &[String]) -> String {
    let family = match settings.family {
        IpFamily::Ip => "IPv4",
        IpFamily::Ip6 => "IPv6",
        IpFamily::Both => "IPv4 and IPv6",
    };
    let arrives = hooks == ["prerouting"];
    let at = match hooks {
        [] => String::new(),
        _ if arrives => " that arrives".to_owned(),
        hooks => format!(" at {}", hooks.join(", ")),
    };
    let is_whole = settings.snaplen >= settings.source.snaplen_max();
    let bytes = match is_whole {
        true => "each packet whole".to_owned(),
        false => format!("the first {} bytes of each packet", settings.snaplen),
    };
    let is_hook = matches!(settings.source, SourceSettings::Hook(_));
    let more = [
        (settings.family != IpFamily::Both, "--family both"),
        (arrives && !is_hook, "--at"),
        (!is_whole, "-s 0"),
    ];
    let more: Vec<_> = more
        .into_iter()
        .filter_map(|(is_left_out, option)| is_left_out.then_some(option))
        .collect();
    let more = match more.is_empty() {
        true => String::new(),
        false => format!(" (more: {})", more.join(", ")),
    };
    format!("{family}{at}, {bytes}{more}")
}

/// Where the rules stand that packets come from; none where that is not known.
fn hooks(settings: &Settings, rules: &[LoggingRule]) -> Vec<String> {
    if let Some(rule) = settings.rule.as_ref().filter(|rule| rule.cgroup.is_none()) {
        let hooks = rule.at.iter().map(ToString::to_string);
        let hooks: Vec<_> = hooks.collect();
        return match hooks.is_empty() {
            true => vec!["prerouting".to_owned()],
            false => hooks,
        };
    }
    const NAMES: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];
    const OF_IP: [&str; 3] = ["ip", "ip6", "inet"];
    let mut hooks = Vec::new();
    for rule in rules {
        let hook = rule
            .hook
            .filter(|_| OF_IP.contains(&&*rule.family.to_string()));
        let name = hook.and_then(|hook| NAMES.get(hook.number as usize));
        let Some(name) = name.map(|name| (*name).to_owned()) else {
            return Vec::new();
        };
        if !hooks.contains(&name) {
            hooks.push(name);
        }
    }
    hooks
}

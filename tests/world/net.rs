//! Rules and links that others change under a capture.

use std::thread;
use std::time::{Duration, Instant};

use crate::model::Why;
use crate::play::{Outcome, Play, SLOTS};
use crate::steps::Source;
use crate::traffic::now;
use crate::world::{Checked, Proc, rule, tool, wrong};

use Outcome::{Done, Nothing};

/// All that was sent has come, and nothing is sent until `let_go`: what is changed between is changed
/// between two packets.
fn hold(play: &mut Play) {
    play.traffic.hold(true);
    play.fence();
}

fn let_go(play: &Play) {
    play.traffic.hold(false);
}

/// Marks all captures of groups that others' rules feed, and of queues.
fn reloaded(play: &mut Play, only: Option<usize>) {
    for slot in (0..SLOTS).filter(|slot| only.is_none_or(|only| only == *slot)) {
        if play.slots[slot].live.is_some()
            && matches!(play.run(slot).options.source, Source::Group | Source::Queue)
        {
            play.run(slot).why.insert(Why::RuleReloaded);
        }
    }
}

/// Of a slot's group, what the rule asks for from now on.
fn note_rule(play: &mut Play, slot: usize, snaplen: u32) {
    play.slots[slot].rule = snaplen;
    let time = now();
    if let Some(ring) = play.slots[slot].ring.as_mut() {
        ring.rules.push((time, snaplen));
    }
}

/// The rule of a group is loaded anew, whole; `snaplen` 0 asks for all.
pub fn set_rule(play: &mut Play, slot: usize, group: u16, snaplen: u32) {
    hold(play);
    reloaded(play, Some(slot));
    let more = if snaplen == 0 {
        String::new()
    } else {
        format!("prefix \"less\" snaplen {snaplen} ")
    };
    let (ip, ip6) = (rule("ip", group, &more), rule("ip6", group, &more));
    play.world.nft(&format!(
        "delete table ip g{group}\ndelete table ip6 g{group}\n{ip}{ip6}"
    ));
    note_rule(play, slot, snaplen);
    let_go(play);
}

pub fn change_rule(play: &mut Play, slot: usize, snaplen: u32) -> Checked<Outcome> {
    if play.slots[slot].live.is_none() || play.run(slot).options.source != Source::Group {
        return Ok(Nothing);
    }
    let group = 5 + u16::try_from(slot).unwrap_or_default();
    play.run(slot).why.insert(Why::RuleChanged);
    set_rule(play, slot, group, snaplen);
    Ok(Done)
}

/// `nft flush ruleset`, and all that was there again.
pub fn flush(play: &mut Play) -> Checked<Outcome> {
    hold(play);
    let seen = play.world.seen();
    play.lost_before.0 += seen.0;
    play.lost_before.1 += seen.1;
    reloaded(play, None);
    play.world.load_rules("flush ruleset\n");
    play.other_rules = false;
    play.drops = None;
    play.traffic.dropping(None);
    for slot in 0..SLOTS {
        note_rule(play, slot, 0);
    }
    let_go(play);
    Ok(Done)
}

/// A rule of others drops what comes, before or behind prerouting's captures; `None`: it goes.
pub fn drop_rule(play: &mut Play, before: Option<bool>) -> Checked<Outcome> {
    if before.is_some() == play.drops.is_some() {
        return Ok(Nothing);
    }
    hold(play);
    // At the first priority of all it stands behind the world's counter, which was there before.
    let text = match before {
        Some(before) => {
            let priority = if before { "-2147483648" } else { "0" };
            format!(
                "table inet drops {{ chain c {{ type filter hook prerouting priority {priority}; \
                 ip saddr 10.0.0.0/8 drop; ip6 saddr fd00::/64 drop; }}\n}}"
            )
        }
        None => "delete table inet drops".to_owned(),
    };
    play.world.nft(&text);
    play.traffic.dropping(before);
    play.drops = before;
    let_go(play);
    Ok(Done)
}

/// A process of a network, for `ip link set ... netns`.
fn sleeper(play: &Play, receiver: bool) -> Proc {
    let lab = &play.world.lab;
    let of = if receiver {
        lab.receiver()
    } else {
        lab.sender()
    };
    let mut command = of.command("sleep").unwrap();
    play.world.spawn("sleeper", command.arg("600"))
}

pub fn bounce(play: &mut Play, how: &str, ms: u64) -> Checked<Outcome> {
    let name = if play.renamed == 0 {
        "rx".to_owned()
    } else {
        format!("rx{}", play.renamed)
    };
    hold(play);
    play.happened(None, Why::Interface);
    let rest = Duration::from_millis(ms);
    match how {
        "mtu" => {
            play.world.ip(&format!("link set {name} mtu 9000"));
            thread::sleep(rest);
            play.world
                .ip(&format!("link set {name} mtu {}", crate::ways::MTU));
        }
        "down" => {
            play.world.ip(&format!("link set {name} down"));
            thread::sleep(rest);
            play.world.ip(&format!("link set {name} up"));
        }
        _ => {
            let (there, here) = (sleeper(play, false), sleeper(play, true));
            play.world
                .ip(&format!("link set {name} netns {}", there.pid()));
            thread::sleep(rest);
            let mut back = play.world.lab.sender().command("ip").unwrap();
            let here = here.pid().to_string();
            tool(back.args(["link", "set", &name, "netns", &here]));
            play.world.receive_ip6(&name);
            play.world
                .ip(&format!("address add 198.18.0.2/15 dev {name}"));
            play.world.ip(&format!("link set {name} up"));
        }
    }
    if how != "mtu" {
        // What it loses with that: `ways.rs`.
        let set = || {
            for what in ["ipv6/conf/{}/forwarding=1", "ipv4/conf/{}/rp_filter=0"] {
                let what = what.replace("{}", &name);
                let (path, value) = what.split_once('=').unwrap_or_default();
                let _ = std::fs::write(format!("/proc/sys/net/{path}"), value);
            }
        };
        play.world.lab.receiver().run(set).unwrap();
        play.world
            .ip(&format!("addr replace fd00::2/128 dev {name} nodad"));
    }
    let begun = Instant::now();
    let works = loop {
        let mut list = play.world.lab.receiver().command("ip").unwrap();
        let list = tool(list.args(["link", "show", "dev", &name]));
        if list.contains("state UP") {
            break true;
        }
        if begun.elapsed() > Duration::from_secs(10) {
            break false;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let_go(play);
    if !works {
        return wrong("an interface stays down", name);
    }
    Ok(Done)
}

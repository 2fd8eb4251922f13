//! More of what can go wrong: directories, devices, limits, links, rules, clients. Each is a step of its
//! own; what lasts has a step that ends it.

use serde::{Deserialize, Serialize};

use crate::model::Why;
use crate::play::{Outcome, Play, SLOTS};
use crate::rng::Rng;
use crate::steps::{Place, Step};
use crate::world::Checked;
use crate::{company, disk, net, short};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Fault {
    /// The ring's directory takes no new file ("i"), or gives none up ("a").
    LockDir {
        capture: u8,
        what: String,
    },
    UnlockDir {
        capture: u8,
    },
    /// The device under a file system fails: "shutdown", or "error", after which it is read-only.
    FailPlace {
        place: Place,
        what: String,
    },
    /// Captures there end, it is mounted again, and they go on.
    MendPlace {
        place: Place,
    },
    /// The ring's directory has another name for so long.
    MoveDir {
        capture: u8,
        ms: u64,
        packets: u64,
    },
    /// A finished file gets a name that is none of the ring's, in its directory.
    RenameFile {
        capture: u8,
        nth: u64,
    },
    /// Something else has a name that the ring will want.
    Foreign {
        capture: u8,
        what: String,
        name: String,
    },
    /// The running process gets a limit: so much more than it has.
    Limit {
        capture: u8,
        what: String,
    },
    Unlimit {
        capture: u8,
    },
    /// The interface goes down and up, to another network and back, gets another MTU.
    Bounce {
        how: String,
        ms: u64,
    },
    /// Somebody flushes all rules, and loads them anew.
    FlushRules,
    /// Somebody's rule drops packets: behind those that capture, or before them.
    DropRule {
        before: bool,
    },
    NoDropRule,
    /// The rule of a group is replaced by one that asks for less of each packet, with a prefix.
    ChangeRule {
        capture: u8,
        snaplen: u32,
    },
    /// Clients that connect and say nothing, or half of something.
    HangClients {
        capture: u8,
        count: u64,
    },
    DropClients {
        capture: u8,
    },
    /// Two clients order different things at one moment.
    TwoOrders {
        capture: u8,
        what: String,
    },
    StopChores {
        capture: u8,
    },
    ContinueChores {
        capture: u8,
    },
    /// Killed while a compressed file is being made.
    KillPacking {
        capture: u8,
    },
    /// A reader is stopped for so long, and goes on.
    PauseReader {
        capture: u8,
        how: String,
        ms: u64,
    },
}

/// How often, beside the others.
pub const WEIGHTS: &[(&str, u64)] = &[
    ("lock-dir", 3),
    ("unlock-dir", 8),
    ("fail-place", 2),
    ("mend-place", 6),
    ("move-dir", 3),
    ("rename-file", 2),
    ("foreign", 3),
    ("limit", 3),
    ("unlimit", 8),
    ("bounce", 3),
    ("flush-rules", 2),
    ("drop-rule", 2),
    ("no-drop-rule", 6),
    ("change-rule", 2),
    ("hang-clients", 3),
    ("drop-clients", 5),
    ("two-orders", 3),
    ("stop-chores", 2),
    ("continue-chores", 6),
    ("kill-packing", 2),
    ("pause-reader", 3),
];

impl Fault {
    /// It ends one that lasts.
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Fault::UnlockDir { .. }
                | Fault::MendPlace { .. }
                | Fault::Unlimit { .. }
                | Fault::NoDropRule
                | Fault::DropClients { .. }
                | Fault::ContinueChores { .. }
        )
    }
}

pub fn act(play: &mut Play, fault: &Fault) -> Checked<Outcome> {
    let slot = |capture: u8| usize::from(capture) % SLOTS;
    match fault {
        Fault::LockDir { capture, what } => disk::lock(play, slot(*capture), what),
        Fault::UnlockDir { capture } => disk::unlock(play, slot(*capture)),
        Fault::FailPlace { place, what } => disk::fail(play, *place, what),
        Fault::MendPlace { place } => disk::mend(play, *place),
        Fault::MoveDir {
            capture,
            ms,
            packets,
        } => disk::move_dir(play, slot(*capture), *ms, *packets),
        Fault::RenameFile { capture, nth } => disk::rename_file(play, slot(*capture), *nth),
        Fault::Foreign {
            capture,
            what,
            name,
        } => disk::foreign(play, slot(*capture), what, name),
        Fault::Limit { capture, what } => short::limit(play, slot(*capture), what),
        Fault::Unlimit { capture } => short::unlimit(play, slot(*capture)),
        Fault::Bounce { how, ms } => net::bounce(play, how, *ms),
        Fault::FlushRules => net::flush(play),
        Fault::DropRule { before } => net::drop_rule(play, Some(*before)),
        Fault::NoDropRule => net::drop_rule(play, None),
        Fault::ChangeRule { capture, snaplen } => net::change_rule(play, slot(*capture), *snaplen),
        Fault::HangClients { capture, count } => company::hang(play, slot(*capture), *count),
        Fault::DropClients { capture } => company::drop_clients(play, slot(*capture)),
        Fault::TwoOrders { capture, what } => company::two_orders(play, slot(*capture), what),
        Fault::StopChores { capture } => company::stop_chores(play, slot(*capture), true),
        Fault::ContinueChores { capture } => company::stop_chores(play, slot(*capture), false),
        Fault::KillPacking { capture } => company::kill_packing(play, slot(*capture)),
        Fault::PauseReader { capture, how, ms } => {
            company::pause_reader(play, slot(*capture), how, *ms)
        }
    }
}

/// What lasts ends.
pub fn end_all(play: &mut Play) -> Checked {
    let mut ends = vec![Fault::NoDropRule];
    for capture in 0..u8::try_from(SLOTS).unwrap_or_default() {
        ends.extend([
            Fault::UnlockDir { capture },
            Fault::Unlimit { capture },
            Fault::DropClients { capture },
            Fault::ContinueChores { capture },
        ]);
    }
    ends.extend(crate::steps::PLACES.map(|place| Fault::MendPlace { place }));
    for fault in ends {
        crate::play::play(play, &Step::More(fault))?;
    }
    Ok(())
}

/// A fault of this kind, if there is something that it can be done to.
pub fn draw(rng: &mut Rng, kind: &str, play: &Play, slot: usize) -> Option<Step> {
    let capture = u8::try_from(slot).unwrap_or_default();
    let live = play.slots[slot].live.as_ref();
    let runs = live.is_some_and(|live| !live.stopped);
    let ring = play.slots[slot].ring.as_ref();
    let place = ring.and_then(|ring| Some(ring.runs.last()?.options.place));
    let troubled = ring.is_some_and(|ring| ring.locked.is_some() || ring.is_foreign());
    let failed = place.is_some_and(|place| play.failed.contains_key(&place));
    let nth = rng.below(8);
    let text = |of: &str| of.to_owned();
    Some(Step::More(match kind {
        "lock-dir" if live.is_some() && !troubled && !failed => Fault::LockDir {
            capture,
            what: rng.pick(&["i", "a"]).to_owned(),
        },
        "unlock-dir" if troubled => Fault::UnlockDir { capture },
        "fail-place" => {
            let place = place.filter(|place| disk::has_device(*place))?;
            if failed {
                return None;
            }
            let what = if place == Place::Xfs {
                "shutdown"
            } else {
                rng.pick(&["shutdown", "error"])
            };
            Fault::FailPlace {
                place,
                what: text(what),
            }
        }
        "mend-place" => Fault::MendPlace {
            place: *play.failed.keys().next()?,
        },
        "move-dir" if runs && !failed && !troubled => Fault::MoveDir {
            capture,
            ms: rng.scale(1, 1500),
            packets: rng.scale(1, 6000),
        },
        "rename-file" if ring.is_some() && !failed && !troubled => {
            Fault::RenameFile { capture, nth }
        }
        "foreign" if live.is_some() && !failed && !troubled => Fault::Foreign {
            capture,
            what: rng.pick(&["dir", "fifo", "link", "file"]).to_owned(),
            name: rng.pick(&["new", "next", "live", "idx", "part"]).to_owned(),
        },
        "limit" if runs && play.slots[slot].limited.is_none() => Fault::Limit {
            capture,
            what: rng.pick(&short::LIMITS).to_owned(),
        },
        "unlimit" if play.slots[slot].limited.is_some() => Fault::Unlimit { capture },
        "bounce" => Fault::Bounce {
            how: rng.pick(&["down", "away", "mtu"]).to_owned(),
            ms: rng.scale(1, 200),
        },
        "flush-rules" => Fault::FlushRules,
        "drop-rule" if play.drops.is_none() => Fault::DropRule {
            before: rng.one_in(2),
        },
        "no-drop-rule" if play.drops.is_some() => Fault::NoDropRule,
        "change-rule" if live.is_some() => Fault::ChangeRule {
            capture,
            snaplen: rng.pick(&[0, 30, 50, 200]),
        },
        "hang-clients" if runs && play.slots[slot].hanging.is_empty() => Fault::HangClients {
            capture,
            count: rng.pick(&[1, 8, 16, 20]),
        },
        "drop-clients" if !play.slots[slot].hanging.is_empty() => Fault::DropClients { capture },
        "two-orders" if runs => Fault::TwoOrders {
            capture,
            what: rng.pick(&company::TWO).to_owned(),
        },
        "stop-chores" if live.is_some() => Fault::StopChores { capture },
        "continue-chores" if play.slots[slot].chores_stopped.is_some() => {
            Fault::ContinueChores { capture }
        }
        "kill-packing" if runs => Fault::KillPacking { capture },
        "pause-reader" if ring.is_some() && !failed => Fault::PauseReader {
            capture,
            how: rng.pick(&crate::readers::WAYS).to_owned(),
            ms: rng.scale(1, 400),
        },
        _ => return None,
    }))
}

/// Something has happened to the run of a slot that explains what it says, or loses.
pub fn why(play: &mut Play, slot: usize, whys: &[Why]) {
    if play.slots[slot]
        .ring
        .as_ref()
        .is_some_and(|ring| !ring.runs.is_empty())
    {
        play.run(slot).why.extend(whys.iter().copied());
    }
}

//! Drawing a step: what there is decides what makes sense, the seed decides which of it. Each seed has
//! weights of its own, some of them zero, so that some worlds do one thing again and again.

use std::collections::HashMap;

use crate::exports;
use crate::pairs::Pairs;
use crate::play::{Play, SLOTS};
use crate::readers::WAYS;
use crate::rng::Rng;
use crate::side::{HOWS, Side};
use crate::steps::{Begin, PLACES, Place, Source, Step};
use crate::traffic::{Kind, What};

pub struct Draw {
    rng: Rng,
    weights: HashMap<&'static str, u64>,
}

/// How often, beside the others.
const WEIGHTS: &[(&str, u64)] = &[
    ("begin", 60),
    ("end", 8),
    ("send", 100),
    ("traffic-on", 6),
    ("traffic-off", 12),
    ("flood", 1),
    ("foreign", 2),
    ("wait", 6),
    ("look", 14),
    ("ctl", 30),
    ("confirm", 4),
    ("bad-order", 3),
    ("hup", 12),
    ("usr1", 2),
    ("keep", 5),
    ("read", 16),
    ("follow", 8),
    ("follow-end", 6),
    ("tshark", 2),
    ("kill", 8),
    ("kill-chores", 3),
    ("stop", 4),
    ("continue", 12),
    ("stop-follower", 3),
    ("continue-follower", 6),
    ("kill-follower", 1),
    ("kill-reader", 3),
    ("fill", 4),
    ("free", 6),
    ("freeze", 2),
    ("remove-live", 3),
    ("remove-finished", 3),
    ("copy", 2),
    ("link", 3),
    ("open", 3),
    ("close", 2),
    ("remove-indexes", 2),
    ("second", 2),
    ("reload", 2),
    ("rename", 4),
    ("new-interface", 2),
    ("remove-interface", 2),
    ("other-rules", 2),
    ("doctor", 1),
    ("scrape", 6),
    ("side", 6),
    ("export", 10),
    ("cut", 2),
    ("move", 2),
    ("touch", 2),
    ("repair", 2),
    ("poor-read", 4),
    ("clients", 3),
    ("power-loss", 3),
];

/// Those, and those of `faults.rs`.
fn all() -> impl Iterator<Item = (&'static str, u64)> {
    WEIGHTS.iter().chain(crate::faults::WEIGHTS).copied()
}
/// The most bytes that are sent at a time.
const BURST_BYTES: u64 = 6_000_000;
/// As much is to be left where nothing is said to fill up: more than three captures take in one step.
const ROOM_BYTES: u64 = 150_000_000;

/// Without these nothing happens: they are never switched off.
const ALWAYS: &[&str] = &["begin", "send", "look", "end"];

impl Draw {
    pub fn new(seed: u64) -> Draw {
        let mut rng = Rng::new(seed);
        let mut weights = HashMap::new();
        for (name, weight) in all() {
            let factor = rng.pick(&[0, 1, 2, 2, 4, 8]);
            let factor = if ALWAYS.contains(&name) { 2 } else { factor };
            weights.insert(name, weight * factor);
        }
        // What begins something has its end.
        for (begins, ends) in [
            ("stop", "continue"),
            ("fill", "free"),
            ("traffic-on", "traffic-off"),
            ("follow", "follow-end"),
            ("lock-dir", "unlock-dir"),
            ("foreign", "unlock-dir"),
            ("fail-place", "mend-place"),
            ("limit", "unlimit"),
            ("drop-rule", "no-drop-rule"),
            ("stop-chores", "continue-chores"),
        ] {
            let least = weights[begins];
            weights.insert(ends, least.max(weights[ends]).max(1));
        }
        Draw { rng, weights }
    }

    pub fn step(&mut self, play: &Play, pairs: &Pairs) -> Step {
        if let Some(step) = self.room(play) {
            return step;
        }
        if !self.rng.one_in(4)
            && let Some(step) = self.wanted(play, pairs)
        {
            return step;
        }
        loop {
            let total: u64 = all().map(|(name, _)| self.weights[name]).sum();
            let mut at = self.rng.below(total);
            let mut kind = "send";
            for (name, _) in all() {
                let weight = self.weights[name];
                if at < weight {
                    kind = name;
                    break;
                }
                at -= weight;
            }
            let slot = usize::try_from(self.rng.below(SLOTS as u64)).unwrap_or_default();
            if let Some(step) = self.of_kind(kind, play, slot) {
                return step;
            }
        }
    }

    /// One that meets pairs that are missing, if there can be one now.
    fn wanted(&mut self, play: &Play, pairs: &Pairs) -> Option<Step> {
        let (kinds, slot) = pairs.wanted();
        let slot = slot?;
        for _ in 0..4 {
            if kinds.is_empty() {
                break;
            }
            let kind = self.rng.pick(&kinds);
            let names: Vec<&str> = all()
                .map(|(name, _)| name)
                .filter(|name| kind.starts_with(name))
                .collect();
            for _ in 0..40 {
                let name = self.rng.pick(&names);
                if let Some(step) = self.of_kind(name, play, slot)
                    && step.kind() == kind
                {
                    return Some(step);
                }
            }
        }
        None
    }

    /// Where a place fills up that is not to, what takes it ends, and goes with the next beginning.
    fn room(&mut self, play: &Play) -> Option<Step> {
        let short = |slot: &usize| {
            let run = play.ring(*slot).and_then(|ring| ring.runs.last());
            let place = run.map(|run| run.options.place);
            place.is_some_and(|place| !place.is_small() && play.world.room(place) < ROOM_BYTES)
        };
        let slot = (0..SLOTS).find(short)?;
        let capture = u8::try_from(slot).unwrap_or_default();
        Some(match &play.slots[slot].live {
            Some(live) if live.stopped => Step::Continue { capture },
            Some(_) => Step::End {
                capture,
                by: "int".to_owned(),
            },
            None if play.slots[slot].follower.is_some() => Step::KillFollower { capture },
            None => {
                let mut begin = self.begin(play, slot);
                begin.again = false;
                Step::Begin(begin)
            }
        })
    }

    fn what(&mut self) -> What {
        let rng = &mut self.rng;
        let kind = rng.pick(&[
            Kind::Udp,
            Kind::Udp,
            Kind::Udp,
            Kind::Udp,
            Kind::Tcp,
            Kind::Icmp,
            Kind::Fragment,
            Kind::Rest,
            Kind::Udp6,
            Kind::Options,
            Kind::Ipip,
            Kind::Gre,
            Kind::Sctp,
            Kind::Priority,
            Kind::Hop6,
            Kind::Fragment6,
            Kind::Icmp6,
            Kind::Beyond,
            Kind::Beyond,
            Kind::Beyond6,
            Kind::Loop,
            Kind::Outer,
        ]);
        let port = rng.pick(&[9000, 9000, 9001]);
        let (from, to) = rng.pick(&[
            (64, 64),
            (64, 64),
            (60, 1514),
            (1514, 1514),
            (62, 300),
            (70, 74),
            (9014, 9014),
            (60, 65_535),
        ]);
        What {
            kind,
            port,
            from,
            to,
        }
    }

    fn begin(&mut self, play: &Play, slot: usize) -> Begin {
        let rng = &mut self.rng;
        let before = play.slots[slot]
            .ring
            .as_ref()
            .and_then(|ring| Some((ring.runs.last()?.options.clone(), ring.runs.len())));
        let again = before.is_some() && !rng.one_in(3);
        let mut source = rng.pick(&[
            Source::Group,
            Source::Installed,
            Source::Installed,
            Source::Hook,
            Source::Hook,
            Source::Queue,
        ]);
        if source == Source::Queue && slot != 0 {
            source = Source::Group;
        }
        let place = rng.pick(&PLACES);
        let snaplen = rng.pick(&[128, 128, 64, 96, 0, 0, 1000, 4000]);
        let small = place.is_small();
        let file_kib = rng.pick(if small {
            &[1024, 2048][..]
        } else {
            &[1024, 1024, 2048, 4096, 8192][..]
        });
        let files = rng.pick(if small {
            &[2, 3][..]
        } else {
            &[0, 0, 2, 3, 8][..]
        });
        let mut begin = Begin {
            capture: u8::try_from(slot).unwrap_or_default(),
            again: false,
            source,
            place,
            snaplen,
            file_kib,
            files,
            max_kib: if rng.one_in(5) && !small {
                file_kib * rng.pick(&[4, 8])
            } else {
                0
            },
            format: rng
                .pick(&["pcapng", "pcapng", "pcapng", "pcapng", "pcap"])
                .to_owned(),
            link: rng
                .pick(&["ethernet", "ethernet", "ethernet", "ip", "nflog"])
                .to_owned(),
            compress: rng.pick(&["", "", "", "zstd", "lz4"]).to_owned(),
            index: !rng.one_in(4),
            both_families: rng.one_in(3),
            only_port: if source == Source::Installed && rng.one_in(3) {
                9000
            } else {
                0
            },
            rotate_secs: if rng.one_in(5) { 1 } else { 0 },
            flush_ms: rng.pick(&[100, 100, 10, 50]),
            batch: rng.pick(&[1024, 1024, 1, 7, 64]),
            buffer_mib: rng.pick(&[64, 64, 8, 1]),
            keep_on: rng.one_in(5),
            boot_days: rng.pick(&[0, 0, 0, 0, 1, 5000]),
            at: rng.pick(&["", "", "", "input", "forward"]).to_owned(),
            metrics: rng.one_in(4),
            iface: rng.pick(&["", "", "", "", "", "lo", "vx0"]).to_owned(),
            prefix: rng.pick(&["", "", "", "a b", "scan: "]).to_owned(),
            on_rotate: rng.one_in(8) && !small,
            max_age_secs: if rng.one_in(12) { 3 } else { 0 },
            sample: if rng.one_in(12) { 3 } else { 0 },
        };
        if begin.source == Source::Hook && begin.sample > 1 && !begin.iface.is_empty() {
            begin.sample = 0;
        }
        if begin.on_rotate {
            begin.compress.clear();
        }
        if matches!(begin.source, Source::Group | Source::Queue) {
            begin.at.clear();
        }
        if matches!(begin.source, Source::Hook | Source::Queue) && begin.link == "nflog" {
            begin.link = "ip".to_owned();
        }
        if let (true, Some((old, runs))) = (again, before)
            && runs < 4
        {
            (begin.again, begin.source, begin.place, begin.format) =
                (true, old.source, old.place, old.format);
            (begin.link, begin.file_kib, begin.snaplen) = (old.link, old.file_kib, old.snaplen);
            begin.at = old.at;
            if begin.source != Source::Installed {
                begin.only_port = 0;
            }
            if begin.max_kib != 0 {
                begin.max_kib = begin.file_kib * 4;
            }
            if begin.place.is_small() {
                begin.files = begin.files.clamp(2, 3);
                begin.max_kib = 0;
            }
        }
        begin
    }

    fn of_kind(&mut self, kind: &str, play: &Play, slot: usize) -> Option<Step> {
        let capture = u8::try_from(slot).unwrap_or_default();
        let live = play.slots[slot].live.is_some();
        let stopped = play.slots[slot]
            .live
            .as_ref()
            .is_some_and(|live| live.stopped);
        let runs = live && !stopped;
        let ring = play.slots[slot].ring.is_some();
        let follower = play.slots[slot].follower.as_ref();
        let file_kib = play.slots[slot]
            .ring
            .as_ref()
            .and_then(|ring| ring.runs.last())
            .map_or(1024, |run| run.options.file_kib);
        let rng = &mut self.rng;
        let nth = rng.below(8);
        Some(match kind {
            "begin" if !live && (follower.is_none() || ring) => Step::Begin(self.begin(play, slot)),
            "end" if runs => Step::End {
                capture,
                by: rng.pick(&["int", "term", "quit", "ctl"]).to_owned(),
            },
            "send" => {
                let what = self.what();
                // As many bytes at the most, whatever their length.
                let most = BURST_BYTES / u64::from(what.from.midpoint(what.to));
                Step::Send {
                    what,
                    packets: self.rng.scale(1, most),
                }
            }
            "traffic-on" if play.traffic.senders() < 3 => {
                let mut what = self.what();
                (what.from, what.to) = (what.from.min(1514), what.to.min(1514));
                Step::TrafficOn {
                    what,
                    rate: self.rng.pick(&[100, 2000, 10_000, 20_000]),
                }
            }
            "traffic-off" if play.traffic.is_on() => Step::TrafficOff,
            "flood" => {
                let mut what = self.what();
                (what.from, what.to) = (what.from.min(1514), what.to.min(1514));
                Step::Flood {
                    what,
                    packets: self.rng.scale(5000, 100_000),
                }
            }
            "foreign" => Step::Foreign {
                packets: rng.scale(1, 200),
            },
            "wait" => Step::Wait {
                ms: rng.scale(1, 1500),
            },
            "look" if ring => Step::Look { capture },
            "ctl" if runs => {
                let order = match rng.below(10) {
                    0 | 1 => "pause".to_owned(),
                    2 | 3 => "resume".to_owned(),
                    4 => format!("snaplen {}", rng.pick(&[64, 96, 128, 256, 1000, 0])),
                    5 => "rotate".to_owned(),
                    6 => format!("files {}", rng.pick(&[2, 3, 8])),
                    7 => format!("file-size {}KiB", rng.pick(&[file_kib, file_kib * 2])),
                    8 => format!("batch {}", rng.pick(&[1, 16, 1024])),
                    _ => format!("flush-ms {}", rng.pick(&[10, 100, 30])),
                };
                let hook = play.slots[slot]
                    .ring
                    .as_ref()
                    .and_then(|ring| ring.runs.last())
                    .is_some_and(|run| matches!(run.options.source, Source::Hook | Source::Queue));
                if hook && (order.starts_with("batch") || order.starts_with("flush")) {
                    return None;
                }
                let secs = if rng.one_in(5) && order != "rotate" {
                    rng.pick(&[2, 3, 6])
                } else {
                    0
                };
                Step::Ctl {
                    capture,
                    order,
                    confirm_secs: secs,
                }
            }
            "confirm" if runs => Step::Confirm { capture },
            "bad-order" if runs => Step::BadOrder {
                capture,
                order: rng
                    .pick(&[
                        "snaplen 300000",
                        "files 1",
                        "file-size x",
                        "nonsense",
                        "pause now",
                        "keep last=x",
                        "sample 0",
                    ])
                    .to_owned(),
            },
            "hup" if live => Step::Hup { capture },
            "usr1" if live => Step::Usr1 { capture },
            "keep" if runs => Step::Keep {
                capture,
                last_secs: rng.pick(&[1, 10, 600]),
                next_secs: rng.pick(&[0, 0, 1]),
            },
            "read" if ring => Step::Read {
                capture,
                how: rng.pick(&WAYS).to_owned(),
            },
            "follow" if live && follower.is_none() => Step::Follow { capture },
            "follow-end" if follower.is_some() => Step::FollowEnd { capture },
            "tshark" if ring => Step::Tshark { capture },
            "kill" if live => Step::Kill {
                capture,
                settled: rng.one_in(2),
            },
            "kill-chores" if live => Step::KillChores { capture },
            "stop" if runs => Step::Stop { capture },
            "continue" if stopped => Step::Continue { capture },
            "stop-follower" if follower.is_some_and(|follower| !follower.stopped) => {
                Step::StopFollower { capture }
            }
            "continue-follower" if follower.is_some_and(|follower| follower.stopped) => {
                Step::ContinueFollower { capture }
            }
            "kill-follower" if follower.is_some() => Step::KillFollower { capture },
            "kill-reader" if ring => Step::KillReader {
                capture,
                how: rng.pick(&WAYS).to_owned(),
                ms: rng.scale(0, 60),
            },
            "fill" => {
                let place = rng.pick(&[Place::SmallTmpfs, Place::SmallExt4]);
                (!play.filled.contains_key(&place)).then(|| Step::Fill {
                    place,
                    leave_kib: rng.pick(&[0, 100, 1024, 3000]),
                })?
            }
            "free" => Step::Free {
                place: *play.filled.keys().next()?,
            },
            "freeze" => Step::Freeze {
                place: rng.pick(&[Place::Ext4, Place::Xfs, Place::SmallExt4]),
                ms: rng.scale(1, 800),
                packets: rng.scale(1, 3000),
            },
            "remove-live" if live => Step::RemoveLive { capture },
            "remove-finished" if ring => Step::RemoveFinished { capture, nth },
            "copy" if ring => Step::CopyFile { capture, nth },
            "link" if ring => Step::LinkFile { capture, nth },
            "open" if ring => Step::OpenFile { capture, nth },
            "close" if !play.held.is_empty() => Step::CloseFiles,
            "remove-indexes" if ring => Step::RemoveIndexes { capture },
            "second" if live => Step::SecondCapture { capture },
            "reload" if live => Step::ReloadRule { capture },
            "rename" => Step::RenameInterface {
                back: play.renamed != 0,
            },
            "new-interface" => Step::NewInterface,
            "remove-interface" if play.interfaces > 0 => Step::RemoveInterface,
            "other-rules" => Step::OtherRules {
                on: !play.other_rules,
            },
            "cut" if ring => Step::CutFile { capture, nth },
            "move" if ring => Step::MoveFile { capture, nth },
            "touch" if ring => Step::TouchFile {
                capture,
                nth,
                date: rng
                    .pick(&["1971-01-01", "2036-01-01", "1 hour ago", "tomorrow"])
                    .to_owned(),
            },
            "repair" if ring => Step::Repair {
                capture,
                nth,
                dry_run: rng.one_in(2),
            },
            "poor-read" if ring => Step::PoorRead {
                capture,
                how: rng.pick(&WAYS).to_owned(),
                limit: rng
                    .pick(&["-n 8", "-n 12", "-n 20", "-v 60000", "-v 150000", "-f 20"])
                    .to_owned(),
            },
            "clients" if runs => Step::Clients { capture },
            "power-loss" if live => Step::PowerLoss {
                capture,
                sync: rng.one_in(2),
            },
            "export" if ring => Step::Export {
                capture,
                how: rng.pick(&exports::HOWS).to_owned(),
            },
            "side" => Step::Side(Side {
                how: rng.pick(&HOWS).to_owned(),
                source: rng.pick(&[Source::Hook, Source::Installed]),
                at: rng.pick(&["", "", "input", "forward"]).to_owned(),
                snaplen: rng.pick(&[0, 128, 64, 1000]),
                packets: rng.scale(8, 3000),
            }),
            "scrape" if runs => Step::Scrape { capture },
            "doctor" if ring => Step::Doctor { capture },
            _ => return crate::faults::draw(rng, kind, play, slot),
        })
    }
}

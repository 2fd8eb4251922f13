//! Puts the sights of each packet together.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::key::{Key, key};
use super::place::{Place, Places, is_sampled, is_timed};
use crate::decode::{Address, Fields};
use crate::nft::At;
use crate::read::{Record, line};

/// After so long no more of a packet is waited for.
const WAIT_NS: u64 = 1_000_000_000;
/// Packets whose ways are open at a time; then that of the oldest ends.
const OPEN_MAX: usize = 1 << 20;
/// Of packets that look alike so many are looked at, the latest first: a processor takes one through all hooks
/// before it takes the next.
const ALIKE_MAX: usize = 64;

/// A packet and where it was seen.
#[derive(Debug, Clone, Default)]
pub struct Packet {
    /// Nanoseconds since 1970 of its first sight.
    pub time_ns: u64,
    /// What it was then, in tcpdump's manner.
    pub line: String,
    /// In the order in which it came there; at least one.
    pub sights: Vec<Sight>,
    /// It is a part of a packet: where connections are tracked, it goes on from prerouting as a part of the
    /// whole.
    pub fragment: bool,
    /// Sights with other ends than the one before, that another packet might have been as well.
    pub doubtful: bool,
    /// The filter has taken one of its records.
    pub wanted: bool,
    ends: Ends,
    last_ns: u64,
}

/// Once at a place.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Where.
    pub place: Place,
    /// Nanoseconds since 1970, where that is the time at the hook or of arrival, and not lwnflog's.
    pub time_ns: Option<u64>,
    /// The interface that the record names.
    pub interface: Arc<str>,
    /// The packet's mark there.
    pub mark: u32,
    /// What it was, where its addresses or ports had changed.
    pub renamed: Option<String>,
}

/// Addresses and ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ends {
    source: (Address, Option<u16>),
    destination: (Address, Option<u16>),
}

impl Ends {
    fn of(fields: &Fields) -> Ends {
        Ends {
            source: (fields.source, fields.ports.map(|(source, _)| source)),
            destination: (fields.destination, fields.ports.map(|(_, to)| to)),
        }
    }
}

/// What was read, in sum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Records.
    pub records: u64,
    /// Those of no IP packet, or of too little of one.
    pub without_way: u64,
    /// Packets that the captures lost.
    pub lost: u64,
    /// Packets whose way was ended because too many were open.
    pub given_up: u64,
    /// Some capture took only one in so many packets.
    pub sampled: bool,
}

/// Takes records in the order of their files, and gives packets once their way has ended.
#[derive(Debug, Default)]
pub struct Tracker {
    places: Places,
    interfaces: HashMap<String, Arc<str>>,
    /// By number, which is the order in which they were seen first.
    open: BTreeMap<u64, (Key, Packet)>,
    /// The numbers of open ones, the latest last.
    by_key: HashMap<Key, VecDeque<u64>>,
    next: u64,
    seen: Seen,
}

impl Tracker {
    /// What was read so far.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Takes a record; `wanted`, if the filter has taken it. Packets whose way has ended meanwhile go to
    /// `ended`.
    pub fn take(&mut self, record: &Record<'_>, wanted: bool, ended: &mut impl FnMut(Packet)) {
        self.seen.records += 1;
        self.seen.lost = self.seen.lost.saturating_add(record.lost_before);
        self.seen.sampled |= is_sampled(record);
        let over = |packet: &Packet| packet.last_ns.saturating_add(WAIT_NS) < record.time_ns;
        while self
            .open
            .first_key_value()
            .is_some_and(|(_, (_, first))| over(first))
        {
            self.end_oldest(ended);
        }
        let Some((key, fields, fragment)) = key(record) else {
            self.seen.without_way += 1;
            return;
        };
        let ends = Ends::of(&fields);
        let mut sight = Sight {
            place: self.places.of(record),
            time_ns: is_timed(record).then_some(record.time_ns),
            interface: self.interface(&record.interface.name),
            mark: record.mark(),
            renamed: None,
        };
        let mut text = String::new();
        let (found, doubtful) = self.find(&key, &sight.place, ends);
        if let Some((_, packet)) = found.and_then(|number| self.open.get_mut(&number)) {
            if packet.ends != ends {
                line::describe(record, &mut text);
                sight.renamed = Some(text);
            }
            packet.sights.push(sight);
            packet.ends = ends;
            packet.last_ns = packet.last_ns.max(record.time_ns);
            packet.wanted |= wanted;
            packet.doubtful |= doubtful;
            return;
        }
        if self.open.len() >= OPEN_MAX {
            self.end_oldest(ended);
            self.seen.given_up += 1;
        }
        line::describe(record, &mut text);
        let packet = Packet {
            time_ns: record.time_ns,
            line: text,
            sights: vec![sight],
            fragment,
            doubtful: false,
            wanted,
            ends,
            last_ns: record.time_ns,
        };
        self.open.insert(self.next, (key, packet));
        self.by_key.entry(key).or_default().push_back(self.next);
        self.next += 1;
    }

    /// Ends all ways.
    pub fn finish(&mut self, ended: &mut impl FnMut(Packet)) {
        while !self.open.is_empty() {
            self.end_oldest(ended);
        }
    }

    fn interface(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.interfaces.get(name) {
            return Arc::clone(known);
        }
        let interface: Arc<str> = line::printable(name).into();
        self.interfaces
            .insert(name.to_owned(), Arc::clone(&interface));
        interface
    }

    /// The open packet that is seen here: the latest with the same ends; else one whose ends were translated,
    /// and whether another one might be it as well.
    fn find(&self, key: &Key, place: &Place, ends: Ends) -> (Option<u64>, bool) {
        let latest = self.by_key.get(key).into_iter().flatten().rev();
        let open = latest.filter_map(|number| Some((*number, self.open.get(number)?)));
        let mut renamed = (None, false);
        for (number, (_, packet)) in open.take(ALIKE_MAX) {
            if !packet.may_come_to(place) {
                continue;
            }
            if packet.ends == ends {
                return (Some(number), false);
            }
            renamed = match renamed {
                (None, _) => (Some(number), false),
                (found, _) => (found, true),
            };
        }
        renamed
    }

    fn end_oldest(&mut self, ended: &mut impl FnMut(Packet)) {
        let Some((_, (key, mut packet))) = self.open.pop_first() else {
            return;
        };
        // The oldest of all is the oldest of its kind.
        if let Some(alike) = self.by_key.get_mut(&key) {
            alike.pop_front();
            if alike.is_empty() {
                self.by_key.remove(&key);
            }
        }
        packet.order();
        ended(packet);
    }
}

impl Packet {
    /// Whether this host sent it.
    fn is_sent(&self) -> bool {
        let output = Place::At(At::Output);
        self.sights.iter().any(|sight| sight.place == output)
    }

    /// Each place has it once; this host sends nothing that it has received, and what it has not sent comes
    /// in before it leaves.
    fn may_come_to(&self, place: &Place) -> bool {
        let been = |at| self.sights.iter().any(|sight| sight.place == Place::At(at));
        if self.sights.iter().any(|sight| sight.place == *place) {
            return false;
        }
        match place {
            Place::At(At::Output) => !been(At::Prerouting) && !been(At::Forward),
            Place::At(At::Prerouting) => !been(At::Postrouting) || self.is_sent(),
            Place::At(At::Input | At::Accepted) => !been(At::Forward),
            Place::At(At::Forward) => !been(At::Input) && !been(At::Accepted),
            _ => true,
        }
    }

    /// Sights of several captures with the same time come in the order of the hooks.
    fn order(&mut self) {
        let (sent, mut last) = (self.is_sent(), 0);
        let mut ranked: Vec<_> = std::mem::take(&mut self.sights)
            .into_iter()
            .map(|sight| {
                last = sight.place.rank(sent).unwrap_or(last);
                (last, sight)
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        self.sights = ranked.into_iter().map(|(_, sight)| sight).collect();
    }
}

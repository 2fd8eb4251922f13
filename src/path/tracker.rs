//! Puts the sights of each packet together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::key::{Key, key};
use super::place::{Place, Places, is_sampled, is_timed};
use crate::decode::{Address, Fields};
use crate::nft::At;
use crate::read::{Record, line};

/// After so long no more of a packet is waited for.
const WAIT_NS: u64 = 1_000_000_000;
/// What packets whose ways are open may take at a time; then that of the oldest ends.
const OPEN_BYTES_MAX: usize = 128 << 20;
/// What an open packet takes beside its sights and texts, and a sight, with what the allocator and tables need.
const PACKET_BYTES: usize = 384;
const SIGHT_BYTES: usize = 144;
/// Places that a packet is seen at; then it is another one that looks alike.
const SIGHTS_MAX: usize = 64;
/// Interfaces whose names are kept, so that all sights share one, and how long a name is shown.
const INTERFACES_MAX: usize = 4096;
const NAME_CHARS_MAX: usize = 128;
/// Of packets that look alike so many are looked at, the latest first: a processor takes one through all hooks
/// before it takes the next.
const ALIKE_MAX: usize = 64;

/// A packet and where it was seen.
#[derive(Debug, Clone, Default)]
pub struct Packet {
    /// Nanoseconds since 1970 of its first sight.
    pub time_ns: u64,
    /// What it was then, in tcpdump's manner.
    pub line: Box<str>,
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
    pub renamed: Option<Box<str>>,
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

/// A packet whose way has not ended.
#[derive(Debug)]
struct Open {
    key: Key,
    /// The number of the one before that looks alike.
    alike: Option<u64>,
    packet: Packet,
}

/// Takes records in the order of their files, and gives packets once their way has ended.
#[derive(Debug)]
pub struct Tracker {
    places: Places,
    interfaces: HashMap<String, Arc<str>>,
    /// In the order in which they were seen first, the oldest with number `oldest`.
    open: VecDeque<Box<Open>>,
    oldest: u64,
    /// What they take, and may take.
    open_bytes: usize,
    open_bytes_max: usize,
    /// The number of the latest one.
    by_key: HashMap<Key, u64>,
    seen: Seen,
}

impl Default for Tracker {
    fn default() -> Tracker {
        Tracker::with_room(OPEN_BYTES_MAX)
    }
}

impl Tracker {
    fn with_room(open_bytes_max: usize) -> Tracker {
        Tracker {
            places: Places::default(),
            interfaces: HashMap::new(),
            open: VecDeque::new(),
            oldest: 0,
            open_bytes: 0,
            open_bytes_max,
            by_key: HashMap::new(),
            seen: Seen::default(),
        }
    }

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
        while self.open.front().is_some_and(|open| over(&open.packet)) {
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
        if let Some(packet) = found.and_then(|number| self.packet_mut(number)) {
            if packet.ends != ends {
                line::describe(record, &mut text);
                sight.renamed = Some(text.into());
            }
            let bytes = sight.bytes();
            packet.sights.push(sight);
            packet.ends = ends;
            packet.last_ns = packet.last_ns.max(record.time_ns);
            packet.wanted |= wanted;
            packet.doubtful |= doubtful;
            self.open_bytes += bytes;
        } else {
            line::describe(record, &mut text);
            let packet = Packet {
                time_ns: record.time_ns,
                line: text.into(),
                sights: vec![sight],
                fragment,
                doubtful: false,
                wanted,
                ends,
                last_ns: record.time_ns,
            };
            self.open_bytes += packet.bytes();
            let number = self.oldest + self.open.len() as u64;
            let alike = self.by_key.insert(key, number);
            self.open.push_back(Box::new(Open { key, alike, packet }));
        }
        while self.open_bytes > self.open_bytes_max && self.open.len() > 1 {
            self.end_oldest(ended);
            self.seen.given_up += 1;
        }
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
        let interface = shown_name(name);
        if self.interfaces.len() >= INTERFACES_MAX {
            self.interfaces.clear();
        }
        self.interfaces
            .insert(name.to_owned(), Arc::clone(&interface));
        interface
    }

    fn open(&self, number: u64) -> Option<&Open> {
        let place = number.checked_sub(self.oldest)?;
        let open = self.open.get(usize::try_from(place).ok()?)?;
        Some(open)
    }

    fn packet_mut(&mut self, number: u64) -> Option<&mut Packet> {
        let place = number.checked_sub(self.oldest)?;
        let open = self.open.get_mut(usize::try_from(place).ok()?)?;
        Some(&mut open.packet)
    }

    /// The open packet that is seen here: the latest with the same ends; else one whose ends were translated,
    /// and whether another one might be it as well.
    fn find(&self, key: &Key, place: &Place, ends: Ends) -> (Option<u64>, bool) {
        let latest = self.by_key.get(key).copied();
        let alike = |number: &u64| self.open(*number)?.alike;
        let numbers = std::iter::successors(latest, alike).take(ALIKE_MAX);
        let mut renamed = (None, false);
        for number in numbers {
            let Some(Open { packet, .. }) = self.open(number) else {
                break;
            };
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
        let Some(open) = self.open.pop_front() else {
            return;
        };
        let Open {
            key, mut packet, ..
        } = *open;
        if self.by_key.get(&key) == Some(&self.oldest) {
            self.by_key.remove(&key);
        }
        self.oldest += 1;
        self.open_bytes -= packet.bytes();
        packet.order();
        ended(packet);
    }
}

/// A name as it is shown, of a length that it may have.
pub(super) fn shown_name(name: &str) -> Arc<str> {
    let end = name.char_indices().nth(NAME_CHARS_MAX);
    let short = end.map_or(name, |(end, _)| &name[..end]);
    line::printable(short).into()
}

impl Sight {
    fn bytes(&self) -> usize {
        SIGHT_BYTES + self.renamed.as_ref().map_or(0, |text| text.len())
    }
}

impl Packet {
    fn bytes(&self) -> usize {
        let sights = self.sights.iter().map(Sight::bytes);
        PACKET_BYTES + self.line.len() + sights.sum::<usize>()
    }

    /// Whether this host sent it.
    fn is_sent(&self) -> bool {
        let output = Place::At(At::Output);
        self.sights.iter().any(|sight| sight.place == output)
    }

    /// Each place has it once; this host sends nothing that it has received, and what it has not sent comes
    /// in before it leaves.
    fn may_come_to(&self, place: &Place) -> bool {
        let been = |at| self.sights.iter().any(|sight| sight.place == Place::At(at));
        let full = self.sights.len() >= SIGHTS_MAX;
        if full || self.sights.iter().any(|sight| sight.place == *place) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Interface;

    /// The oldest ways end where there is no room, each packet once, and those are counted.
    #[test]
    fn what_finds_no_room_ends_and_is_counted() {
        const PACKETS: u32 = 1000;
        let interface = Interface {
            link: 101,
            ..Interface::default()
        };
        let mut tracker = Tracker::with_room(100 * (PACKET_BYTES + SIGHT_BYTES));
        let (mut ended, mut most) = (Vec::new(), 0);
        for number in (0..PACKETS).chain(0..PACKETS) {
            let mut data = vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0];
            data.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 12, 0, 0]);
            data.extend(number.to_be_bytes());
            let record = Record {
                time_ns: 1,
                interface: &interface,
                data: &data,
                original_len: 32,
                lost_before: 0,
                flags: 0,
                comment: "prefix=input",
                note: "",
            };
            tracker.take(&record, true, &mut |packet| ended.push(packet.sights.len()));
            most = most.max(tracker.open_bytes);
            let counted: usize = tracker.open.iter().map(|open| open.packet.bytes()).sum();
            assert_eq!(counted, tracker.open_bytes);
        }
        let given_up = tracker.seen().given_up;
        assert_eq!(given_up, ended.len() as u64);
        assert!(
            given_up > 1800 && most < tracker.open_bytes_max + 1000,
            "{given_up}, {most}"
        );
        tracker.finish(&mut |packet| ended.push(packet.sights.len()));
        assert_eq!(ended.len(), 2 * PACKETS as usize);
        assert!(tracker.by_key.is_empty() && tracker.open_bytes == 0);
    }
}

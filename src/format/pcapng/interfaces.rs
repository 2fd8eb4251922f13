//! The interfaces that the packets of one file came by, numbered in the order they were met.

use std::collections::{HashMap, VecDeque};

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index; 0 is "none".
    pub ifindex: u32,
    /// Its name when it was first met.
    pub name: String,
    /// The name of the bridge whose port it is.
    pub bridge: Option<String>,
    /// Packets recorded of it in this file.
    pub packets: u64,
    /// Packets lost before one of its packets was recorded.
    pub lost: u64,
    /// Time of its first packet since 1970, in ticks; 0 is none yet.
    pub first_ticks: u64,
    /// The latest time of a packet of it since 1970, in ticks.
    pub last_ticks: u64,
}

/// Places that are found by an index's low bits: a host with more interfaces looks some of them up
/// the long way.
const SLOTS: usize = 1024;
/// Names that are remembered of interfaces that have gone, for what is still to come of them.
const GONE_MAX: usize = 256;

/// An index and the place of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// One more than the index; 0 is an empty slot.
    key: u64,
    place: usize,
}

const EMPTY: Slot = Slot { key: 0, place: 0 };

/// The table of a file's interfaces; an interface's place is its id in the file.
#[derive(Debug)]
pub struct Interfaces {
    table: Vec<Interface>,
    slots: Box<[Slot; SLOTS]>,
    /// All of the table, by index.
    places: HashMap<u32, usize>,
    /// Of interfaces that are there, and of the last that have gone.
    names: HashMap<u32, String>,
    /// Those that have gone, in the order in which they did.
    gone: VecDeque<u32>,
    name_of: fn(u32) -> Option<String>,
}

impl Interfaces {
    /// An empty table. `name_of` looks up an interface's name; it is called when one is met whose
    /// name [`Interfaces::set_name`] has not told.
    pub fn new(name_of: fn(u32) -> Option<String>) -> Self {
        Interfaces {
            table: Vec::new(),
            slots: Box::new([EMPTY; SLOTS]),
            places: HashMap::new(),
            names: HashMap::new(),
            gone: VecDeque::new(),
            name_of,
        }
    }

    /// Begins the table of another file.
    pub fn begin_file(&mut self) {
        self.table.clear();
        self.places.clear();
        self.slots.fill(EMPTY);
    }

    /// The place of an interface, if it was met in this file.
    #[inline]
    pub fn find(&mut self, ifindex: u32) -> Option<usize> {
        let slot = self.slots[ifindex as usize % SLOTS];
        if slot.key == u64::from(ifindex) + 1 {
            return Some(slot.place);
        }
        self.find_elsewhere(ifindex)
    }

    #[cold]
    fn find_elsewhere(&mut self, ifindex: u32) -> Option<usize> {
        let place = *self.places.get(&ifindex)?;
        self.put(ifindex, place);
        Some(place)
    }

    fn put(&mut self, ifindex: u32, place: usize) {
        let key = u64::from(ifindex) + 1;
        self.slots[ifindex as usize % SLOTS] = Slot { key, place };
    }

    /// Adds an interface that [`Interfaces::find`] did not find, and returns its place.
    /// `bridge_ifindex`: the bridge whose port it is; 0 is none.
    pub fn add(&mut self, ifindex: u32, bridge_ifindex: u32) -> usize {
        let name = self.name(ifindex);
        let bridge = (bridge_ifindex != 0).then(|| self.name(bridge_ifindex));
        let place = self.table.len();
        self.table.push(Interface {
            ifindex,
            name,
            bridge,
            packets: 0,
            lost: 0,
            first_ticks: 0,
            last_ticks: 0,
        });
        self.places.insert(ifindex, place);
        self.put(ifindex, place);
        place
    }

    fn name(&mut self, ifindex: u32) -> String {
        if let Some(name) = self.names.get(&ifindex) {
            return name.clone();
        }
        match (self.name_of)(ifindex) {
            Some(name) => {
                self.names.insert(ifindex, name.clone());
                name
            }
            None if ifindex == 0 => "none".to_owned(),
            None => format!("ifindex-{ifindex}"),
        }
    }

    /// Takes note of what an interface is called now: where it was met under another name, it is met
    /// anew. One that has gone (`None`) keeps its name for a while, for what is still to come of it.
    pub fn set_name(&mut self, ifindex: u32, name: Option<&str>) {
        let Some(name) = name else {
            if self.names.contains_key(&ifindex) && !self.gone.contains(&ifindex) {
                self.gone.push_back(ifindex);
            }
            if self.gone.len() > GONE_MAX
                && let Some(first) = self.gone.pop_front()
            {
                self.names.remove(&first);
            }
            return;
        };
        self.gone.retain(|gone| *gone != ifindex);
        if self.names.get(&ifindex).is_none_or(|known| known != name) {
            self.names.insert(ifindex, name.to_owned());
        }
        let met = self.places.get(&ifindex).copied();
        let shown = met.and_then(|place| self.table.get(place));
        if shown.is_some_and(|interface| interface.name != name) {
            self.places.remove(&ifindex);
            self.slots[ifindex as usize % SLOTS] = EMPTY;
        }
    }

    /// Counts recorded packets of the interface at `place`, the last one of this time, and what was
    /// lost before them. Not always in order: packets of several templates are counted template by
    /// template.
    #[inline]
    pub fn count(&mut self, place: usize, packets: u64, stamp_ticks: u64, lost_before: u64) {
        if let Some(interface) = self.table.get_mut(place) {
            if interface.packets == 0 {
                interface.first_ticks = stamp_ticks;
            }
            interface.packets += packets;
            interface.lost += lost_before;
            interface.last_ticks = interface.last_ticks.max(stamp_ticks);
        }
    }

    /// Counts packets that were lost behind the last one that was recorded, with its interface: whose
    /// they were is not known.
    pub fn lose(&mut self, packets: u64) {
        let met = self.table.iter_mut().filter(|met| met.packets != 0);
        if let Some(last) = met.max_by_key(|met| met.last_ticks) {
            last.lost += packets;
        }
    }

    /// All interfaces of the file, in order of their ids.
    pub fn all(&self) -> &[Interface] {
        &self.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the kernel's answer")]
    fn name_of(ifindex: u32) -> Option<String> {
        Some(format!("if{ifindex}"))
    }

    #[test]
    fn many_are_found_and_none_is_carried_into_the_next_file() {
        let mut interfaces = Interfaces::new(name_of);
        for ifindex in 0..3000 {
            assert_eq!(interfaces.find(ifindex), None);
            assert_eq!(interfaces.add(ifindex, 0), ifindex as usize);
        }
        // Also those that share a slot.
        for ifindex in [5, 1029, 5, 2053, 5, 2999] {
            assert_eq!(interfaces.find(ifindex), Some(ifindex as usize));
        }
        interfaces.begin_file();
        assert!(interfaces.all().is_empty());
        assert_eq!(interfaces.find(5), None);
        assert_eq!(interfaces.add(5, 0), 0);
    }

    #[test]
    fn a_name_belongs_to_an_index_at_a_time() {
        let mut interfaces = Interfaces::new(name_of);
        for ifindex in [7, 8, 9] {
            interfaces.add(ifindex, 0);
        }
        interfaces.set_name(7, Some("wan"));
        interfaces.set_name(8, Some("if8"));
        interfaces.set_name(9, None);
        assert_eq!(interfaces.find(7), None);
        assert_eq!(interfaces.find(8), Some(1));
        assert_eq!(
            interfaces.find(9),
            Some(2),
            "what comes of one that has gone"
        );
        let place = interfaces.add(7, 0);
        assert_eq!(interfaces.all()[place].name, "wan");
        assert_eq!(interfaces.all()[0].name, "if7");
        // The bridge of a port is a name as well.
        let place = interfaces.add(10, 7);
        assert_eq!(interfaces.all()[place].bridge.as_deref(), Some("wan"));
    }

    #[test]
    fn what_has_gone_is_forgotten_in_the_end() {
        fn none(_: u32) -> Option<String> {
            None
        }
        let mut interfaces = Interfaces::new(none);
        let of = |ifindex: u32| format!("veth{ifindex}");
        for ifindex in 1..=50_000 {
            interfaces.set_name(ifindex, Some(&of(ifindex)));
            interfaces.set_name(ifindex, None);
            interfaces.set_name(ifindex, None);
            assert!(interfaces.names.len() <= GONE_MAX + 1);
        }
        // The last ones are known for what is still to come of them, in another file as well.
        interfaces.begin_file();
        let place = interfaces.add(50_000, 0);
        assert_eq!(interfaces.all()[place].name, of(50_000));
        let place = interfaces.add(1, 0);
        assert_eq!(interfaces.all()[place].name, "ifindex-1");
        // One whose name could not be had is met anew when it is told; so is one that comes back.
        interfaces.set_name(1, Some("eth0"));
        assert_eq!(interfaces.find(1), None);
        interfaces.set_name(50_000, Some(&of(50_000)));
        assert!(interfaces.find(50_000).is_some());
        for ifindex in 60_000..61_000 {
            interfaces.set_name(ifindex, Some(&of(ifindex)));
            interfaces.set_name(ifindex, None);
        }
        assert!(interfaces.names.contains_key(&50_000), "it is there");
    }
}

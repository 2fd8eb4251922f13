//! The devices that packets came by, numbered in the order they were met.

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index; 0 is "none".
    pub ifindex: u32,
    /// Its name when it was first met.
    pub name: String,
    /// The name of the bridge whose port it is.
    pub bridge: Option<String>,
    /// Packets recorded of it since the capture began.
    pub packets: u64,
    /// Packets lost before one of its packets was recorded.
    pub lost: u64,
    /// Time of its first packet, microseconds since 1970; 0 is none yet.
    pub first_us: u64,
    /// The latest time of a packet of it, microseconds since 1970.
    pub last_us: u64,
}

/// The table of devices; a device's place is its interface id in every file.
#[derive(Debug)]
pub struct Interfaces {
    table: Vec<Interface>,
    /// Place of the device of the last packet: most packets come by the same one.
    last: usize,
    name_of: fn(u32) -> Option<String>,
}

impl Interfaces {
    /// An empty table. `name_of` looks up a device's name; it is called once a device.
    pub fn new(name_of: fn(u32) -> Option<String>) -> Self {
        Interfaces {
            table: Vec::new(),
            last: 0,
            name_of,
        }
    }

    /// The place of a device, if it was met before.
    #[inline]
    pub fn find(&mut self, ifindex: u32) -> Option<usize> {
        if let Some(last) = self.table.get(self.last)
            && last.ifindex == ifindex
        {
            return Some(self.last);
        }
        let place = self
            .table
            .iter()
            .position(|known| known.ifindex == ifindex)?;
        self.last = place;
        Some(place)
    }

    /// Adds a device that [`Interfaces::find`] did not find, and returns its place.
    /// `bridge_ifindex`: the bridge whose port it is; 0 is none.
    pub fn add(&mut self, ifindex: u32, bridge_ifindex: u32) -> usize {
        let name_of = |ifindex| {
            (self.name_of)(ifindex).unwrap_or_else(|| match ifindex {
                0 => "none".to_owned(),
                gone => format!("ifindex-{gone}"),
            })
        };
        let name = name_of(ifindex);
        let bridge = (bridge_ifindex != 0).then(|| name_of(bridge_ifindex));
        self.table.push(Interface {
            ifindex,
            name,
            bridge,
            packets: 0,
            lost: 0,
            first_us: 0,
            last_us: 0,
        });
        self.last = self.table.len() - 1;
        self.last
    }

    /// Counts recorded packets of the device at `place`, the last one of this time, and what was lost
    /// before them. Not always in order: packets of several shapes are counted shape by shape.
    #[inline]
    pub fn count(&mut self, place: usize, packets: u64, stamp_us: u64, lost_before: u64) {
        if let Some(interface) = self.table.get_mut(place) {
            if interface.packets == 0 {
                interface.first_us = stamp_us;
            }
            interface.packets += packets;
            interface.lost += lost_before;
            interface.last_us = interface.last_us.max(stamp_us);
        }
    }

    /// All devices, in order of their ids.
    pub fn all(&self) -> &[Interface] {
        &self.table
    }
}

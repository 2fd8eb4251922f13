//! Connections that were opened and never went on, and sources that try many doors.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Version, address.
pub(super) type Host = (u8, u128);
/// A host and a port.
pub(super) type Door = (Host, u16);

/// Connections known at a time.
const FLOWS_MAX: usize = 1 << 19;
/// Sources whose doors are told apart, and doors of one.
const TRYING_MAX: usize = 1 << 16;
const DOORS_MAX: usize = 4096;
/// So many ports of a host, or hosts with a port, are a scan.
const SCAN_MIN: usize = 50;

/// What became of a connection that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// Nothing came but its SYN.
    Nothing,
    Refused,
    WentOn,
}

/// TCP flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TcpFlags {
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
}

impl TcpFlags {
    /// Of the 14th byte of a TCP header (RFC 9293, 3.1).
    pub(super) fn of(byte: u8) -> TcpFlags {
        TcpFlags {
            fin: byte & 1 != 0,
            syn: byte & 2 != 0,
            rst: byte & 4 != 0,
            ack: byte & 16 != 0,
        }
    }

    pub(super) fn opens(self) -> bool {
        self.syn && !self.ack
    }
}

#[derive(Debug, Default)]
pub(super) struct Flows {
    /// By client and server.
    opened: HashMap<(Door, Door), Became>,
    beyond: u64,
    doors: HashMap<Host, HashSet<Door>>,
    /// Tries of sources that found no room.
    tries_beyond: u64,
}

/// A door at which connections never went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) door: Door,
    pub(super) connections: u64,
    pub(super) sources: u64,
}

/// Connections by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) all: u64,
    pub(super) nothing: u64,
    pub(super) refused: u64,
    /// SYNs that found no room in the table.
    pub(super) beyond: u64,
}

/// A source that tries many doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) source: Host,
    pub(super) of: Scanned,
    /// Ports or hosts.
    pub(super) count: usize,
    /// There may be more: so many are told apart, and no more.
    pub(super) at_least: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    PortsOf(Host),
    HostsWith(u16),
}

impl Flows {
    pub(super) fn tcp(&mut self, from: Door, to: Door, flags: TcpFlags) {
        if flags.opens() {
            if self.opened.len() < FLOWS_MAX || self.opened.contains_key(&(from, to)) {
                self.opened.entry((from, to)).or_insert(Became::Nothing);
            } else {
                self.beyond += 1;
            }
            self.tries(from.0, to);
            return;
        }
        if let Some(became) = self.opened.get_mut(&(from, to)) {
            *became = Became::WentOn;
        } else if let Some(became) = self.opened.get_mut(&(to, from)) {
            *became = match (flags.rst, *became) {
                (true, Became::Nothing) => Became::Refused,
                _ => Became::WentOn,
            };
        }
    }

    /// A source comes to a door.
    pub(super) fn tries(&mut self, source: Host, door: Door) {
        if self.doors.len() == TRYING_MAX && !self.doors.contains_key(&source) {
            self.tries_beyond += 1;
            return;
        }
        let doors = self.doors.entry(source).or_default();
        if doors.len() < DOORS_MAX {
            doors.insert(door);
        }
    }

    /// Tries that no scan can be found in: the table of sources was full.
    pub(super) fn tries_beyond(&self) -> u64 {
        self.tries_beyond
    }

    pub(super) fn opened(&self) -> Opened {
        let became = |what| {
            self.opened
                .values()
                .filter(|became| **became == what)
                .count() as u64
        };
        Opened {
            all: self.opened.len() as u64,
            nothing: became(Became::Nothing),
            refused: became(Became::Refused),
            beyond: self.beyond,
        }
    }

    /// Doors at which most connections never went on.
    pub(super) fn unanswered(&self, most: usize) -> Vec<Unanswered> {
        let mut doors: BTreeMap<Door, (u64, HashSet<Host>)> = BTreeMap::new();
        for ((from, to), became) in &self.opened {
            if *became == Became::Nothing {
                let (connections, sources) = doors.entry(*to).or_default();
                *connections += 1;
                sources.insert(from.0);
            }
        }
        let mut all: Vec<_> = doors
            .into_iter()
            .map(|(door, (connections, sources))| Unanswered {
                door,
                connections,
                sources: sources.len() as u64,
            })
            .collect();
        all.sort_by_key(|unanswered| std::cmp::Reverse(unanswered.connections));
        all.truncate(most);
        all
    }

    /// Sources that tried many ports of a host, or many hosts with a port; the most first.
    pub(super) fn scans(&self, most: usize) -> Vec<Scan> {
        let mut scans = Vec::new();
        for (source, doors) in &self.doors {
            let mut ports: BTreeMap<Host, usize> = BTreeMap::new();
            let mut hosts: BTreeMap<u16, usize> = BTreeMap::new();
            for (host, port) in doors {
                *ports.entry(*host).or_default() += 1;
                *hosts.entry(*port).or_default() += 1;
            }
            let ports = ports
                .into_iter()
                .map(|(host, count)| (Scanned::PortsOf(host), count));
            let hosts = hosts
                .into_iter()
                .map(|(port, count)| (Scanned::HostsWith(port), count));
            scans.extend(
                ports
                    .chain(hosts)
                    .filter(|(_, count)| *count >= SCAN_MIN)
                    .map(|(of, count)| Scan {
                        source: *source,
                        of,
                        count,
                        at_least: doors.len() == DOORS_MAX,
                    }),
            );
        }
        let order = |scan: &Scan| {
            let of = match scan.of {
                Scanned::PortsOf((version, address)) => (0, version, address),
                Scanned::HostsWith(port) => (1, 0, port.into()),
            };
            (std::cmp::Reverse(scan.count), scan.source, of)
        };
        scans.sort_by_key(order);
        scans.truncate(most);
        scans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Host = (4, 0x0a00_0001);

    fn flags(byte: u8) -> TcpFlags {
        TcpFlags::of(byte)
    }

    #[test]
    fn what_becomes_of_connections() {
        let mut flows = Flows::default();
        let client = |number: u16| ((4, 0x0a00_0100), 40_000 + number);
        for number in 0..3 {
            flows.tcp(client(number), (SERVER, 80), flags(2));
        }
        flows.tcp((SERVER, 80), client(1), flags(0x14)); // RST, ACK
        flows.tcp((SERVER, 80), client(2), flags(0x12)); // SYN, ACK
        flows.tcp((SERVER, 80), client(2), flags(0x14)); // reset later: it went on
        // Seen from one side only: the client goes on.
        flows.tcp(client(9), (SERVER, 443), flags(2));
        flows.tcp(client(9), (SERVER, 443), flags(0x10));
        let opened = flows.opened();
        assert_eq!((opened.all, opened.nothing, opened.refused), (4, 1, 1));
        let unanswered = flows.unanswered(9);
        assert_eq!(unanswered.len(), 1);
        assert_eq!(unanswered[0].door, (SERVER, 80));
        assert_eq!((unanswered[0].connections, unanswered[0].sources), (1, 1));
    }

    #[test]
    fn many_doors_are_a_scan() {
        let mut flows = Flows::default();
        let (across, along) = ((4, 1), (4, 2));
        for number in 0..60_u16 {
            flows.tries(across, ((4, 1000 + u128::from(number)), 22));
            flows.tries(along, (SERVER, number));
        }
        for number in 0..49_u16 {
            flows.tries((4, 3), (SERVER, number));
        }
        let scans = flows.scans(9);
        assert_eq!(scans.len(), 2);
        assert_eq!(
            (scans[0].source, scans[0].of),
            (across, Scanned::HostsWith(22))
        );
        assert_eq!(
            (scans[1].source, scans[1].of),
            (along, Scanned::PortsOf(SERVER))
        );
    }
}

//! Connections that were opened and never went on, and sources that try many doors in vain.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::bounded::first;
use super::hosts::{Host, Number};

/// Connections known at a time, and doors that sources tried: of each so many. Each table takes 18 MB; for more
/// than seven eighths of a power of two it would take twice that.
const ROOM: usize = 800_000;
/// Doors of one source.
const DOORS_MAX: u16 = 4096;
/// So many ports of a host, or hosts with a port, are a scan.
const SCAN_MIN: usize = 50;

/// A host and a port. `None` is a host that found no room.
pub(super) type End = (Option<Number>, u16);

/// What became of a connection that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// Nothing came but its SYN.
    Nothing,
    Refused,
    /// The server answered, and the client has said nothing yet.
    Accepted,
    /// The client ended it with its first word: it wanted to know whether there is an answer.
    Probed,
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

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    client: Number,
    server: Number,
    ports: (u16, u16),
}

/// A source at a door, of TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Try {
    source: Number,
    host: Number,
    port: u16,
    tcp: bool,
}

/// What a source was told at a door, by any of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    /// It was let in, as far as is known.
    Accepted,
    Answered,
}

#[derive(Debug)]
pub(super) struct Flows {
    room: usize,
    opened: HashMap<Flow, Became>,
    beyond: u64,
    tries: HashMap<Try, Told>,
    /// Doors of each source, by its number.
    doors: Vec<u16>,
    /// Tries that found no room.
    tries_beyond: u64,
}

/// A door at which connections never went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) door: (Host, u16),
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

/// A source that tries many doors in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) source: Host,
    pub(super) of: Scanned,
    /// Ports or hosts.
    pub(super) count: usize,
    /// There may be more: so many are told apart, and no more.
    pub(super) at_least: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scanned {
    PortsOf(Host),
    HostsWith(u16),
}

impl Default for Flows {
    fn default() -> Flows {
        Flows::with_room(ROOM)
    }
}

impl Flows {
    fn with_room(room: usize) -> Flows {
        Flows {
            room,
            opened: HashMap::new(),
            beyond: 0,
            tries: HashMap::new(),
            doors: Vec::new(),
            tries_beyond: 0,
        }
    }

    pub(super) fn tcp(&mut self, from: End, to: End, flags: TcpFlags) {
        let (Some(from_host), Some(to_host)) = (from.0, to.0) else {
            self.beyond += u64::from(flags.opens());
            self.tries_beyond += u64::from(flags.opens());
            return;
        };
        let there = Flow {
            client: from_host,
            server: to_host,
            ports: (from.1, to.1),
        };
        let back = Flow {
            client: to_host,
            server: from_host,
            ports: (to.1, from.1),
        };
        if flags.opens() {
            if self.opened.len() < self.room || self.opened.contains_key(&there) {
                self.opened.entry(there).or_insert(Became::Nothing);
            } else {
                self.beyond += 1;
            }
            self.tries(there.door());
        } else if let Some(became) = self.opened.get_mut(&there) {
            let before = *became;
            *became = match (before, flags.rst) {
                (Became::Nothing | Became::Accepted, true) => Became::Probed,
                (Became::Probed | Became::Refused, true) => before,
                _ => Became::WentOn,
            };
            match *became {
                now if now == before => {}
                Became::Probed => self.told(there.door(), |told| match told {
                    Told::Accepted => Told::Nothing,
                    told => told,
                }),
                _ => self.told(there.door(), |_| Told::Answered),
            }
        } else if let Some(became) = self.opened.get_mut(&back) {
            let before = *became;
            *became = match (before, flags.rst, flags.syn) {
                (Became::Nothing, true, _) => Became::Refused,
                (Became::Nothing | Became::Refused, false, true) => Became::Accepted,
                (Became::Accepted, false, true) => Became::Accepted,
                (Became::Refused, true, _) | (Became::Probed, ..) => before,
                _ => Became::WentOn,
            };
            match *became {
                now if now == before => {}
                Became::Accepted => {
                    self.told(back.door(), |told| told.max(Told::Accepted));
                }
                Became::WentOn => self.told(back.door(), |_| Told::Answered),
                _ => {}
            }
        } else if self.beyond != 0 && !flags.rst {
            // One of those that found no room, perhaps: no connection that went on is a try in vain.
            self.told(there.door(), |_| Told::Answered);
            self.told(back.door(), |_| Told::Answered);
        }
    }

    /// The end with the smaller port is taken for the door.
    pub(super) fn udp(&mut self, from: End, to: End) {
        let (Some(from_host), Some(to_host)) = (from.0, to.0) else {
            self.tries_beyond += u64::from(to.1 < from.1);
            return;
        };
        let door = |source, host, port| Try {
            source,
            host,
            port,
            tcp: false,
        };
        if to.1 < from.1 {
            self.tries(door(from_host, to_host, to.1));
        } else if from.1 < to.1 {
            self.told(door(to_host, from_host, from.1), |_| Told::Answered);
        }
    }

    /// A source comes to a door.
    fn tries(&mut self, at: Try) {
        if self.tries.contains_key(&at) {
            return;
        }
        let source = at.source as usize;
        if self.doors.len() <= source {
            self.doors.resize(source + 1, 0);
        }
        let doors = &mut self.doors[source];
        if *doors == DOORS_MAX {
            return; // at least so many, it is said
        }
        if self.tries.len() == self.room {
            self.tries_beyond += 1;
            return;
        }
        *doors += 1;
        self.tries.insert(at, Told::Nothing);
    }

    fn told(&mut self, at: Try, what: impl FnOnce(Told) -> Told) {
        if let Some(told) = self.tries.get_mut(&at) {
            *told = what(*told);
        }
    }

    /// Tries that no scan can be found in: the table was full.
    pub(super) fn tries_beyond(&self) -> u64 {
        self.tries_beyond
    }

    pub(super) fn opened(&self) -> Opened {
        let became = |what| {
            let all = self.opened.values();
            all.filter(|became| **became == what).count() as u64
        };
        Opened {
            all: self.opened.len() as u64,
            nothing: became(Became::Nothing),
            refused: became(Became::Refused),
            beyond: self.beyond,
        }
    }

    /// Doors at which most connections never went on.
    pub(super) fn unanswered(&self, hosts: &[Host], most: usize) -> Vec<Unanswered> {
        let nothing = self.opened.iter();
        let nothing = nothing.filter(|(_, became)| **became == Became::Nothing);
        let mut all: Vec<_> = nothing
            .map(|(flow, _)| (flow.server, flow.ports.1, flow.client))
            .collect();
        all.sort_unstable();
        let doors = all.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1));
        let doors = doors.filter_map(|at| {
            let (server, port, _) = *at.first()?;
            let sources = at.chunk_by(|one, other| one.2 == other.2).count();
            Some((Reverse(at.len()), named(hosts, server), port, sources))
        });
        let unanswered = first(doors, most).into_iter();
        unanswered
            .map(|(Reverse(connections), host, port, sources)| Unanswered {
                door: (host, port),
                connections: connections as u64,
                sources: sources as u64,
            })
            .collect()
    }

    /// Sources that tried many ports of a host, or many hosts with a port, and were let in at none of them; the
    /// most first.
    pub(super) fn scans(&self, hosts: &[Host], most: usize) -> Vec<Scan> {
        let in_vain = self
            .tries
            .iter()
            .filter(|(_, told)| **told == Told::Nothing);
        let mut tries: Vec<_> = in_vain
            .map(|(at, _)| (at.source, at.host, u32::from(at.port)))
            .collect();
        let mut scans = self.many_of_one(&mut tries, hosts, most, |host| {
            Scanned::PortsOf(named(hosts, host))
        });
        for (_, host, port) in &mut tries {
            std::mem::swap(host, port);
        }
        let across = self.many_of_one(&mut tries, hosts, most, |port| {
            Scanned::HostsWith(u16::try_from(port).unwrap_or(u16::MAX))
        });
        scans.extend(across);
        let scan = |(Reverse(count), source, of, at_least)| Scan {
            source,
            of,
            count,
            at_least,
        };
        first(scans.into_iter(), most)
            .into_iter()
            .map(scan)
            .collect()
    }

    /// Of sources, of what they tried, and what of it: where that is much.
    fn many_of_one(
        &self,
        tries: &mut Vec<(Number, u32, u32)>,
        hosts: &[Host],
        most: usize,
        of: impl Fn(u32) -> Scanned,
    ) -> Vec<(Reverse<usize>, Host, Scanned, bool)> {
        tries.sort_unstable();
        tries.dedup(); // by TCP and by UDP
        let groups = tries.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1));
        let many = groups.filter(|group| group.len() >= SCAN_MIN);
        let many = many.filter_map(|group| {
            let (source, what, _) = *group.first()?;
            let doors = self.doors.get(source as usize).copied();
            let at_least = doors == Some(DOORS_MAX);
            let source = named(hosts, source);
            Some((Reverse(group.len()), source, of(what), at_least))
        });
        first(many, most)
    }
}

impl Flow {
    fn door(self) -> Try {
        Try {
            source: self.client,
            host: self.server,
            port: self.ports.1,
            tcp: true,
        }
    }
}

fn named(hosts: &[Host], number: Number) -> Host {
    hosts.get(number as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Number = 0;

    /// The address of a number is the same number.
    fn hosts() -> Vec<Host> {
        (0..20_000).map(|number| (4, number)).collect()
    }

    fn at(host: Number, port: u16) -> End {
        (Some(host), port)
    }

    fn flags(byte: u8) -> TcpFlags {
        TcpFlags::of(byte)
    }

    const SYN: u8 = 2;
    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;
    const RST: u8 = 4;
    const RST_ACK: u8 = 0x14;

    #[test]
    fn what_becomes_of_connections() {
        let mut flows = Flows::default();
        let client = |number: u16| at(100, 40_000 + number);
        for number in 0..3 {
            flows.tcp(client(number), at(SERVER, 80), flags(SYN));
        }
        flows.tcp(at(SERVER, 80), client(1), flags(RST_ACK));
        flows.tcp(at(SERVER, 80), client(2), flags(SYN_ACK));
        flows.tcp(at(SERVER, 80), client(2), flags(RST_ACK)); // reset later: it went on
        // Seen from one side only: the client goes on.
        flows.tcp(client(9), at(SERVER, 443), flags(SYN));
        flows.tcp(client(9), at(SERVER, 443), flags(ACK));
        let opened = flows.opened();
        assert_eq!((opened.all, opened.nothing, opened.refused), (4, 1, 1));
        let unanswered = flows.unanswered(&hosts(), 9);
        assert_eq!(unanswered.len(), 1);
        assert_eq!(unanswered[0].door, ((4, 0), 80));
        assert_eq!((unanswered[0].connections, unanswered[0].sources), (1, 1));
    }

    #[test]
    fn many_doors_are_a_scan() {
        let mut flows = Flows::default();
        let (across, along) = (1, 2);
        for number in 0..60_u16 {
            flows.udp(at(across, 40_000), at(1000 + Number::from(number), 22));
            flows.udp(at(along, 40_000), at(SERVER, number));
        }
        for number in 0..49_u16 {
            flows.udp(at(3, 40_000), at(SERVER, number));
        }
        let scans = flows.scans(&hosts(), 9);
        assert_eq!(scans.len(), 2);
        let found: Vec<_> = scans.iter().map(|scan| (scan.source.1, scan.of)).collect();
        let of = (Scanned::HostsWith(22), Scanned::PortsOf((4, 0)));
        assert_eq!(found, [(1, of.0), (2, of.1)]);
    }

    /// What is tried 60 times, at 60 hosts, and answered each time as said: from the client or to it.
    fn told(answers: &[(bool, u8)]) -> usize {
        let mut flows = Flows::default();
        for number in 0..60_u16 {
            let (client, server) = (at(1, 40_000 + number), at(1000 + Number::from(number), 443));
            flows.tcp(client, server, flags(SYN));
            for (from_client, byte) in answers {
                let (from, to) = match from_client {
                    true => (client, server),
                    false => (server, client),
                };
                flows.tcp(from, to, flags(*byte));
            }
        }
        flows.scans(&hosts(), 9).iter().map(|scan| scan.count).sum()
    }

    #[test]
    fn what_is_answered_is_no_scan() {
        let (client, server) = (true, false);
        for went_on in [
            &[(server, SYN_ACK), (client, ACK), (server, ACK)][..],
            &[(server, SYN_ACK), (client, ACK), (client, RST)],
            &[(server, SYN_ACK)],
            // From one side alone.
            &[(client, ACK)],
            &[(client, ACK), (client, RST)],
            // The SYN came again, and was answered then.
            &[
                (server, RST_ACK),
                (client, SYN),
                (server, SYN_ACK),
                (client, ACK),
            ],
        ] {
            assert_eq!(told(went_on), 0, "{went_on:?}");
        }
        for in_vain in [
            &[][..],
            &[(client, SYN)],
            &[(server, RST_ACK)],
            &[(server, RST_ACK), (server, RST_ACK)],
            // Who only wants to know whether somebody answers.
            &[(server, SYN_ACK), (client, RST)],
            &[(server, SYN_ACK), (client, RST), (client, RST)],
            &[(client, RST)],
        ] {
            assert_eq!(told(in_vain), 60, "{in_vain:?}");
        }
        // Of UDP an answer is what comes from the door.
        for (answered, scans) in [(true, 0), (false, 1)] {
            let mut flows = Flows::default();
            for number in 0..60_u16 {
                let (client, server) =
                    (at(1, 40_000 + number), at(1000 + Number::from(number), 53));
                flows.udp(client, server);
                if answered {
                    flows.udp(server, client);
                }
            }
            assert_eq!(flows.scans(&hosts(), 9).len(), scans);
        }
    }

    #[test]
    fn what_finds_no_room_is_said_and_no_scan() {
        let mut flows = Flows::with_room(9000);
        for port in 0..9000 {
            flows.tcp(at(10, port), at(SERVER, 80), flags(SYN));
        }
        assert_eq!((flows.opened.len(), flows.tries.len()), (9000, 1));
        for number in 0..60 {
            let (client, server) = (at(1, 40_000), at(1000 + number, 443));
            flows.tcp(client, server, flags(SYN));
            flows.tcp(server, client, flags(SYN_ACK));
        }
        assert_eq!(flows.opened().beyond, 60);
        assert!(flows.scans(&hosts(), 9).is_empty());
        // Nor is there more than a source may have, and all may have together.
        for source in 20..23 {
            for port in 0..5000 {
                flows.udp(at(source, 60_000), at(SERVER, port));
            }
        }
        assert_eq!(flows.tries.len(), 9000);
        let tried: u64 = 1 + 60 + 4096 + 4096 + 5000;
        assert_eq!(flows.tries_beyond(), tried - 9000);
        let scans = flows.scans(&hosts(), 1);
        assert_eq!((scans[0].count, scans[0].at_least), (4096, true));
        // A host that found no room either.
        flows.tcp((None, 1), at(SERVER, 80), flags(SYN));
        assert_eq!(flows.opened().beyond, 61);
    }
}

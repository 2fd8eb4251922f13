//! Everything that a report says, from one pass over the packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Amount;
use super::bounded::Bounded;
use super::flows::{Flows, Scan, TcpFlags, Unanswered};
use super::hosts::{Host, Hosts};
use super::series::Series;
use crate::read::Record;
use crate::read::decode::{Fields, is_known, network};
use crate::read::packets::Tail;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: [u8; 2] = [1, 58];
/// Ports with their protocols that are told apart: all there are of those that have ports.
const PORTS_MAX: usize = 3 << 16;
/// Names of interfaces and prefixes, and bytes by which they are told apart.
const NAMES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 256;
/// What names are summed up as that find no room.
const OTHERS: &str = "(others)";
/// Changes of captures that are told.
const NOTES_MAX: usize = 64;
/// The last class of sizes is all above.
pub(super) const SIZES: [u32; 8] = [64, 128, 256, 512, 1024, 1518, 9018, u32::MAX];

/// What was captured at a place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AtPlace {
    pub(super) amount: Amount,
    pub(super) lost: u64,
    pub(super) gaps: u64,
    /// The largest that was declared.
    pub(super) snaplen_bytes: u32,
}

/// What was counted.
#[derive(Debug)]
pub struct Tally {
    pub(super) all: Amount,
    pub(super) captured_bytes: u64,
    /// Packets of which not all bytes are there.
    pub(super) cut: u64,
    pub(super) lost: u64,
    /// Places before which packets were lost.
    pub(super) gaps: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) not_ip: u64,
    /// Packets by link types that are not looked into.
    pub(super) unknown: BTreeMap<u16, u64>,
    /// First parts of packets in parts, and later ones.
    pub(super) fragments: (u64, u64),
    pub(super) series: Series,
    pub(super) protocols: BTreeMap<(u8, u8), Amount>,
    pub(super) sizes: [u64; SIZES.len()],
    /// What the file says of the place, and the interface's name.
    pub(super) places: BTreeMap<String, BTreeMap<String, AtPlace>>,
    /// What was changed in the captures, when.
    pub(super) notes: BTreeSet<(u64, String)>,
    /// Changes that found no room.
    pub(super) notes_beyond: u64,
    pub(super) prefixes: BTreeMap<String, Amount>,
    pub(super) hosts: Hosts,
    /// Destination ports, with their protocol.
    pub(super) ports: Bounded<(u8, u16)>,
    pub(super) flows: Flows,
    /// SYNs without an acknowledgement.
    pub(super) syns: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            all: Amount::default(),
            captured_bytes: 0,
            cut: 0,
            lost: 0,
            gaps: 0,
            first_ns: u64::MAX,
            last_ns: 0,
            not_ip: 0,
            unknown: BTreeMap::new(),
            fragments: (0, 0),
            series: Series::default(),
            protocols: BTreeMap::new(),
            sizes: [0; SIZES.len()],
            places: BTreeMap::new(),
            notes: BTreeSet::new(),
            notes_beyond: 0,
            prefixes: BTreeMap::new(),
            hosts: Hosts::default(),
            ports: Bounded::new(PORTS_MAX),
            flows: Flows::default(),
            syns: 0,
        }
    }
}

impl Tally {
    /// Counts a packet.
    pub fn add(&mut self, record: &Record<'_>) {
        let bytes = u64::from(record.original_len);
        self.all.add(bytes);
        self.captured_bytes += record.data.len() as u64;
        self.cut += u64::from(record.data.len() < record.original_len as usize);
        self.lost = self.lost.saturating_add(record.lost_before);
        self.gaps += u64::from(record.lost_before != 0);
        self.first_ns = self.first_ns.min(record.time_ns);
        self.last_ns = self.last_ns.max(record.time_ns);
        let size = SIZES.iter().position(|most| record.original_len <= *most);
        if let Some(count) = size.and_then(|size| self.sizes.get_mut(size)) {
            *count += 1;
        }
        self.place(record, bytes);
        if !record.note.is_empty() {
            self.note(record);
        }
        if !record.comment.is_empty() && !record.prefix().is_empty() {
            of_name(&mut self.prefixes, record.prefix(), |amount| {
                amount.add(bytes)
            });
        }
        let fields = Fields::of(record.interface.link, record.data);
        let (source, new_source) = match fields.version {
            0 => (None, false),
            version => self.hosts.source((version, fields.source), bytes),
        };
        let column = self.series.at(record.time_ns);
        column.packets += 1;
        column.bytes += bytes;
        column.lost = column.lost.saturating_add(record.lost_before);
        column.new_sources += u64::from(new_source);
        if fields.version == 0 {
            let link = record.interface.link;
            match is_known(link) {
                true => self.not_ip += 1,
                false => *self.unknown.entry(link).or_default() += 1,
            }
            return;
        }
        let destination = (fields.version, fields.destination);
        let destination = self.hosts.destination(destination, bytes);
        let protocol = fields.protocol.unwrap_or(u8::MAX);
        self.protocols
            .entry((fields.version, protocol))
            .or_default()
            .add(bytes);
        match protocol {
            TCP => column.tcp += 1,
            UDP => column.udp += 1,
            protocol if ICMP.contains(&protocol) => column.icmp += 1,
            _ => {}
        }
        let packet = network(record.interface.link, record.data).unwrap_or(&[]);
        if fields.later_fragment {
            self.fragments.1 += 1;
        } else if begins_fragments(packet) {
            self.fragments.0 += 1;
        }
        let Some((from, to)) = fields.ports else {
            return;
        };
        self.ports.add((protocol, to), bytes);
        let (from, to) = ((source, from), (destination, to));
        if protocol == UDP {
            self.flows.udp(from, to);
        }
        let Some(flags) = tcp_flags(packet).filter(|_| protocol == TCP) else {
            return;
        };
        column.syn += u64::from(flags.opens());
        column.syn_ack += u64::from(flags.syn && flags.ack);
        column.fin += u64::from(flags.fin);
        column.rst += u64::from(flags.rst);
        self.syns += u64::from(flags.opens());
        self.flows.tcp(from, to, flags);
    }

    /// Counts what was lost behind the last packet of a file.
    pub fn add_tail(&mut self, tail: &Tail) {
        self.lost = self.lost.saturating_add(tail.lost);
        self.gaps += 1;
        // What a file says of itself is not to draw out the time.
        if self.first_ns <= self.last_ns {
            let time_ns = tail.time_ns.clamp(self.first_ns, self.last_ns);
            let column = self.series.at(time_ns);
            column.lost = column.lost.saturating_add(tail.lost);
        }
        let interface = &tail.interface;
        of_name(&mut self.places, &interface.description, |described| {
            of_name(described, &interface.name, |place| {
                place.lost = place.lost.saturating_add(tail.lost);
                place.gaps += 1;
                place.snaplen_bytes = place.snaplen_bytes.max(interface.snaplen_bytes);
            });
        });
    }

    /// Counts a packet, and what was lost before it, where it was captured.
    fn place(&mut self, record: &Record<'_>, bytes: u64) {
        let interface = record.interface;
        of_name(&mut self.places, &interface.description, |described| {
            of_name(described, &interface.name, |place| {
                place.amount.add(bytes);
                place.lost = place.lost.saturating_add(record.lost_before);
                place.gaps += u64::from(record.lost_before != 0);
                place.snaplen_bytes = place.snaplen_bytes.max(interface.snaplen_bytes);
            });
        });
    }

    fn note(&mut self, record: &Record<'_>) {
        let note = (record.time_ns, record.note.to_owned());
        if self.notes.len() < NOTES_MAX {
            self.notes.insert(note);
        } else {
            self.notes_beyond += 1;
        }
    }

    /// Doors at which most connections never went on.
    pub(super) fn unanswered(&self, most: usize) -> Vec<Unanswered> {
        self.flows.unanswered(&self.hosts.all(), most)
    }

    /// Sources that tried many doors in vain.
    pub(super) fn scans(&self, most: usize) -> Vec<Scan> {
        self.flows.scans(&self.hosts.all(), most)
    }

    /// From the first packet to the last, in seconds.
    pub(super) fn elapsed_secs(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let nanos = self.last_ns.saturating_sub(self.first_ns) as f64;
        nanos / 1e9
    }
}

/// Does something with what a name has. Names that find no room have one together.
fn of_name<V: Default>(table: &mut BTreeMap<String, V>, name: &str, with: impl FnOnce(&mut V)) {
    let name = beginning(name, NAME_BYTES_MAX);
    if let Some(known) = table.get_mut(name) {
        return with(known);
    }
    let name = if table.len() < NAMES_MAX {
        name
    } else {
        OTHERS
    };
    with(table.entry(name.to_owned()).or_default());
}

/// So many bytes of a text, or as many as are whole letters.
fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether more parts of an IPv4 packet follow (RFC 791, 3.1) and this is the first.
fn begins_fragments(packet: &[u8]) -> bool {
    match packet {
        [first, ..] if first >> 4 == 4 => packet
            .get(6..8)
            .is_some_and(|field| field[0] & 0x20 != 0 && field[0] & 0x1f == 0 && field[1] == 0),
        // RFC 8200, 4.5: the flag that says that more follow; a whole packet may have the header too.
        [first, ..] if first >> 4 == 6 => {
            packet.get(6) == Some(&44) && packet.get(43).is_some_and(|flags| flags & 1 != 0)
        }
        _ => false,
    }
}

/// The flags of a TCP packet, where they are there.
fn tcp_flags(packet: &[u8]) -> Option<TcpFlags> {
    const FLAGS: usize = 13;
    let header = match packet.first()? >> 4 {
        4 => usize::from(packet[0] & 15) * 4,
        _ => 40,
    };
    packet.get(header + FLAGS).map(|byte| TcpFlags::of(*byte))
}

/// An address as it is written.
pub(super) fn shown((version, address): Host) -> String {
    let address = match version {
        4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(address).unwrap_or(0))),
        _ => IpAddr::V6(Ipv6Addr::from(address)),
    };
    address.to_string()
}

/// A protocol's name, or its number (IANA's protocol numbers).
pub(super) fn protocol(number: u8) -> String {
    let name = match number {
        1 => "ICMP",
        2 => "IGMP",
        6 => "TCP",
        17 => "UDP",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "ICMPv6",
        89 => "OSPF",
        132 => "SCTP",
        u8::MAX => "(cut off)",
        number => return format!("protocol {number}"),
    };
    name.to_owned()
}

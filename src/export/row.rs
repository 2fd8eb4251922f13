//! A packet as a row: numbers, and texts that many rows share.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::headers::{Headers, Ip};
use crate::decode::Address;
use crate::read::Record;

/// A text of a [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text(u32);

/// A packet. What is not known of it, because it is another protocol or was cut off, is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row {
    time_ns: i64,
    source: Option<Text>,
    interface: Option<Text>,
    direction: Option<Text>,
    src_mac: Option<Text>,
    dst_mac: Option<Text>,
    ip_version: Option<i32>,
    src: Option<Text>,
    dst: Option<Text>,
    protocol: Option<i32>,
    src_port: Option<i32>,
    dst_port: Option<i32>,
    tcp_flags: Option<i32>,
    tcp_seq: Option<i64>,
    tcp_ack: Option<i64>,
    tcp_window: Option<i32>,
    icmp_type: Option<i32>,
    icmp_code: Option<i32>,
    ttl: Option<i32>,
    ip_id: Option<i32>,
    ip_len: Option<i32>,
    fragment_offset: Option<i32>,
    more_fragments: Option<i32>,
    captured_len: i32,
    original_len: i64,
    mark: Option<i64>,
    prefix: Option<Text>,
    lost_before: i64,
    payload: Option<Text>,
}

/// How a column is read from a row.
#[derive(Clone, Copy)]
pub enum Get {
    /// A number of 32 bits.
    Int(fn(&Row) -> Option<i32>),
    /// A number of 64 bits.
    Long(fn(&Row) -> Option<i64>),
    /// A text, UTF-8.
    Text(fn(&Row) -> Option<Text>),
    /// Bytes.
    Bytes(fn(&Row) -> Option<Text>),
}

/// The columns, in their order.
pub const COLUMNS: [(&str, Get); 29] = [
    ("time_ns", Get::Long(|row| Some(row.time_ns))),
    ("source", Get::Text(|row| row.source)),
    ("interface", Get::Text(|row| row.interface)),
    ("direction", Get::Text(|row| row.direction)),
    ("src_mac", Get::Text(|row| row.src_mac)),
    ("dst_mac", Get::Text(|row| row.dst_mac)),
    ("ip_version", Get::Int(|row| row.ip_version)),
    ("src", Get::Text(|row| row.src)),
    ("dst", Get::Text(|row| row.dst)),
    ("protocol", Get::Int(|row| row.protocol)),
    ("src_port", Get::Int(|row| row.src_port)),
    ("dst_port", Get::Int(|row| row.dst_port)),
    ("tcp_flags", Get::Int(|row| row.tcp_flags)),
    ("tcp_seq", Get::Long(|row| row.tcp_seq)),
    ("tcp_ack", Get::Long(|row| row.tcp_ack)),
    ("tcp_window", Get::Int(|row| row.tcp_window)),
    ("icmp_type", Get::Int(|row| row.icmp_type)),
    ("icmp_code", Get::Int(|row| row.icmp_code)),
    ("ttl", Get::Int(|row| row.ttl)),
    ("ip_id", Get::Int(|row| row.ip_id)),
    ("ip_len", Get::Int(|row| row.ip_len)),
    ("fragment_offset", Get::Int(|row| row.fragment_offset)),
    ("more_fragments", Get::Int(|row| row.more_fragments)),
    ("captured_len", Get::Int(|row| Some(row.captured_len))),
    ("original_len", Get::Long(|row| Some(row.original_len))),
    ("mark", Get::Long(|row| row.mark)),
    ("prefix", Get::Text(|row| row.prefix)),
    ("lost_before", Get::Long(|row| Some(row.lost_before))),
    ("payload", Get::Bytes(|row| row.payload)),
];

/// Rows, and the texts that they name.
#[derive(Debug, Default)]
pub struct Table {
    /// The rows.
    pub rows: Vec<Row>,
    texts: Vec<Vec<u8>>,
    /// All of them together.
    texts_bytes: usize,
    addresses: HashMap<(u8, Address), Text>,
    macs: HashMap<[u8; 6], Text>,
    /// Those of the last packet, which the next often has, too.
    last_macs: Option<([u8; 12], Text, Text)>,
    words: HashMap<Vec<u8>, Text>,
    payload_bytes: usize,
}

impl Table {
    /// An empty one. Of what is behind the headers so many bytes are kept.
    pub fn new(payload_bytes: usize) -> Table {
        Table {
            payload_bytes,
            ..Table::default()
        }
    }

    /// Appends a packet.
    pub fn add(&mut self, record: &Record<'_>) {
        let says_nothing = record.comment.is_empty();
        let mut row = Row {
            time_ns: i64::try_from(record.time_ns).unwrap_or(i64::MAX),
            captured_len: int(record.data.len()),
            original_len: record.original_len.into(),
            mark: (!says_nothing)
                .then(|| record.mark())
                .filter(|mark| *mark != 0)
                .map(i64::from),
            lost_before: i64::try_from(record.lost_before).unwrap_or(i64::MAX),
            source: self.word(record.interface.description.as_bytes()),
            interface: self.word(record.interface.name.as_bytes()),
            prefix: match says_nothing {
                true => None,
                false => self.word(record.prefix().as_bytes()),
            },
            direction: match record.flags & 3 {
                1 => self.word(b"in"),
                2 => self.word(b"out"),
                _ => None,
            },
            ..Row::default()
        };
        let headers = Headers::of(record);
        if let Some(macs) = headers.macs {
            let (src, dst) = self.macs_of(macs);
            (row.src_mac, row.dst_mac) = (Some(src), Some(dst));
        }
        if let Some(ip) = headers.ip {
            self.internet(&mut row, &ip);
        }
        let payload = headers.payload;
        let payload = &payload[..payload.len().min(self.payload_bytes)];
        row.payload = (!payload.is_empty()).then(|| self.push(payload));
        self.rows.push(row);
    }

    fn internet(&mut self, row: &mut Row, ip: &Ip) {
        row.ip_version = Some(ip.version.into());
        row.src = Some(self.address(ip.version, ip.src));
        row.dst = Some(self.address(ip.version, ip.dst));
        row.protocol = ip.protocol.map(i32::from);
        row.src_port = ip.ports.map(|(port, _)| port.into());
        row.dst_port = ip.ports.map(|(_, port)| port.into());
        row.tcp_flags = ip.tcp_flags.map(i32::from);
        row.tcp_seq = ip.tcp_seq.map(i64::from);
        row.tcp_ack = ip.tcp_ack.map(i64::from);
        row.tcp_window = ip.tcp_window.map(i32::from);
        row.icmp_type = ip.icmp_type.map(i32::from);
        row.icmp_code = ip.icmp_code.map(i32::from);
        row.ttl = ip.ttl.map(i32::from);
        row.ip_id = ip.id.map(i32::from);
        row.ip_len = ip.len.and_then(|len| i32::try_from(len).ok());
        row.fragment_offset = ip.fragment_offset.map(i32::from);
        row.more_fragments = ip.more_fragments.map(i32::from);
    }

    /// The bytes of a text.
    pub fn text(&self, text: Text) -> &[u8] {
        &self.texts[text.0 as usize]
    }

    /// All texts, in their order.
    pub fn texts(&self) -> &[Vec<u8>] {
        &self.texts
    }

    /// What one without rows counts for in [`Table::bytes`].
    pub const EMPTY_BYTES: usize = 1 << 10;

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        /// Beside its bytes: its place, and that it is known.
        const TEXT_BYTES: usize = 96;
        let rows = self.rows.len() * size_of::<Row>();
        Table::EMPTY_BYTES + rows + self.texts.len() * TEXT_BYTES + self.texts_bytes
    }

    /// By time, packets of the same time as they came.
    pub fn sort(&mut self) {
        if !self.rows.is_sorted_by_key(|row| row.time_ns) {
            self.rows.sort_by_key(|row| row.time_ns);
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Text {
        self.texts_bytes += bytes.len();
        self.texts.push(bytes.to_vec());
        Text(u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX))
    }

    fn word(&mut self, word: &[u8]) -> Option<Text> {
        if word.is_empty() {
            return None;
        }
        if let Some(known) = self.words.get(word) {
            return Some(*known);
        }
        let text = self.push(word);
        self.words.insert(word.to_vec(), text);
        Some(text)
    }

    fn address(&mut self, version: u8, address: Address) -> Text {
        known_or(
            &mut self.addresses,
            &mut self.texts,
            (version, address),
            || {
                let address: IpAddr = match u32::try_from(address) {
                    Ok(address) if version == 4 => Ipv4Addr::from(address).into(),
                    _ => Ipv6Addr::from(address).into(),
                };
                address.to_string()
            },
        )
    }

    /// Of the beginning of an Ethernet frame: source and destination.
    fn macs_of(&mut self, macs: [u8; 12]) -> (Text, Text) {
        if let Some((_, src, dst)) = self.last_macs.filter(|(last, ..)| *last == macs) {
            return (src, dst);
        }
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = macs;
        let dst = self.mac([d0, d1, d2, d3, d4, d5]);
        let src = self.mac([s0, s1, s2, s3, s4, s5]);
        self.last_macs = Some((macs, src, dst));
        (src, dst)
    }

    fn mac(&mut self, mac: [u8; 6]) -> Text {
        known_or(&mut self.macs, &mut self.texts, mac, || {
            mac.map(|byte| format!("{byte:02x}")).join(":")
        })
    }
}

impl Text {
    /// Where it stands among the table's texts.
    pub fn place(self) -> usize {
        self.0 as usize
    }
}

fn known_or<K: Hash + Eq>(
    known: &mut HashMap<K, Text>,
    texts: &mut Vec<Vec<u8>>,
    key: K,
    make: impl FnOnce() -> String,
) -> Text {
    *known.entry(key).or_insert_with(|| {
        texts.push(make().into_bytes());
        Text(u32::try_from(texts.len() - 1).unwrap_or(u32::MAX))
    })
}

fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

//! Rings' files as docs/FORMAT.md has them, and others' captures, with whatever times, names and
//! damage a test wants. A packet says its number in its source address.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::made::option;

pub const SEGMENT_BYTES: usize = 64 << 10;
pub const SECTION: u32 = 0x0a0d_0d0a;
pub const PADDING: u32 = 0x8000_6c77;

/// The frame of a packet: Ethernet, IPv4, and TCP where the number is a multiple of 3, else UDP.
pub fn frame(number: u32, bytes: usize) -> Vec<u8> {
    let mut frame = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0].to_vec();
    let len = u16::try_from(bytes - frame.len()).unwrap().to_be_bytes();
    let protocol = if is_tcp(number) { 6 } else { 17 };
    frame.extend([0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, protocol, 0, 0]);
    frame.extend((0x0a00_0000 | number).to_be_bytes());
    frame.extend([192, 0, 2, 1]);
    frame.extend(source_port(number).to_be_bytes());
    frame.extend([0, 53]);
    frame.extend([0; 8]);
    frame.extend([0x50, 2, 0, 0, 0, 0, 0, 0]); // the rest of TCP's header
    frame.resize(bytes, 0);
    frame
}

pub fn is_tcp(number: u32) -> bool {
    number.is_multiple_of(3)
}

pub fn source_port(number: u32) -> u16 {
    2000 + u16::try_from(number / 40 % 30).unwrap()
}

/// The numbers of packets that `lwnflog read --json` shows.
pub fn numbers(json: &str) -> Vec<u32> {
    let number = |line: &str| {
        let packet: Value = serde_json::from_str(line).unwrap();
        let source = packet["source"].as_str().unwrap_or_default().to_owned();
        let address: std::net::Ipv4Addr = source.parse().unwrap_or_else(|_| panic!("{line}"));
        u32::from(address) & 0xff_ffff
    };
    json.lines().map(number).collect()
}

/// A block of pcapng.
pub fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let total = u32::try_from(padded + 12).unwrap().to_le_bytes();
    let mut block = [kind.to_le_bytes(), total].concat();
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(total);
    block
}

/// A Section Header Block of version 1.0, with a comment if there is one.
pub fn section(comment: &str) -> Vec<u8> {
    let mut body = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX]
        .map(u32::to_le_bytes)
        .concat();
    if !comment.is_empty() {
        option(&mut body, 1, comment.as_bytes());
        body.extend([0; 4]);
    }
    block(SECTION, &body)
}

/// An Interface Description Block of Ethernet, in units of 10^-`tsresol` seconds.
pub fn interface(tsresol: u8, snaplen: u32, more: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = [1, snaplen].map(u32::to_le_bytes).concat();
    option(&mut body, 9, &[tsresol]);
    for (code, value) in more {
        option(&mut body, *code, value);
    }
    body.extend([0; 4]);
    block(1, &body)
}

/// An Enhanced Packet Block without options.
pub fn packet(ticks: u64, data: &[u8]) -> Vec<u8> {
    let stamp = ticks.to_le_bytes();
    let len = u32::try_from(data.len()).unwrap().to_le_bytes();
    let parts = [&[0; 4], &stamp[4..], &stamp[..4], &len, &len, data];
    block(6, &parts.concat())
}

/// A classic file in nanoseconds.
pub fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let words = [0xa1b2_3c4d_u32, 2 | 4 << 16, 0, 0, 262_144, 1];
    let mut bytes = words.map(u32::to_le_bytes).concat();
    for (time_ns, data) in packets {
        let len = u32::try_from(data.len()).unwrap();
        let [seconds, nanos] = [time_ns / 1_000_000_000, time_ns % 1_000_000_000]
            .map(|part| u32::try_from(part).unwrap());
        bytes.extend([seconds, nanos, len, len].map(u32::to_le_bytes).concat());
        bytes.extend(data);
    }
    bytes
}

pub fn at_ns(time_ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(time_ns)
}

pub fn set_changed(path: &Path, time_ns: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(at_ns(time_ns)).unwrap();
}

/// A ring's file that is being written, as its writer commits: a packet a batch.
pub struct Live {
    file: File,
    path: PathBuf,
    at: usize,
    first_ns: Option<u64>,
    last_ns: u64,
}

impl Live {
    /// File number `number` of the ring `ring`, of so many segments, all of them unused.
    pub fn begin(dir: &Path, ring: &str, number: u64, segments: usize) -> Live {
        Live::begin_in(dir, ring, number, segments, 0)
    }

    /// The same, in a certain start of a machine.
    pub fn begin_in(dir: &Path, ring: &str, number: u64, segments: usize, boot: u32) -> Live {
        let path = dir.join(format!("{ring}-{number:06}.live.pcapng"));
        let options = &mut File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(&path).unwrap();
        file.set_len((segments * SEGMENT_BYTES) as u64).unwrap();
        let mut live = Live {
            file,
            path,
            at: 0,
            first_ns: None,
            last_ns: 0,
        };
        for segment in 0..segments {
            live.cover(segment * SEGMENT_BYTES);
        }
        let boot = format!("0c5b{boot:04x}-0000-4000-8000-000000000001");
        let comment = format!("lwnflog segment={SEGMENT_BYTES} boot={boot}");
        let more: [(u16, &[u8]); 3] = [
            (2, b"eth0"),
            (3, b"NFLOG group 5"),
            (1, b"lwnflog interface=0"),
        ];
        let head = [section(&comment), interface(9, 262_144, &more)].concat();
        live.commit(&head);
        live
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next packet goes.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn put(&mut self, time_ns: u64, frame: &[u8]) {
        let record = self.prepare(time_ns, frame);
        self.commit(&record);
    }

    /// All of it but the store that ends a commit, which is what is returned.
    pub fn put_in_part(&mut self, time_ns: u64, frame: &[u8]) -> Vec<u8> {
        let record = self.prepare(time_ns, frame);
        self.commit_in_part(&record);
        record
    }

    /// The store that ends it.
    pub fn commit_rest(&mut self, blocks: &[u8]) {
        let at = self.at as u64;
        self.file.write_all_at(&blocks[..8], at).unwrap();
        self.at += blocks.len();
    }

    fn prepare(&mut self, time_ns: u64, frame: &[u8]) -> Vec<u8> {
        let record = packet(time_ns, frame);
        let left = SEGMENT_BYTES - self.at % SEGMENT_BYTES;
        if record.len() + 12 > left {
            self.at += left;
        }
        self.first_ns.get_or_insert(time_ns);
        self.last_ns = time_ns;
        record
    }

    /// Finished as lwnflog does it; returns the path that it has then.
    pub fn finish(self) -> PathBuf {
        let first_ns = self.first_ns.unwrap_or_default();
        self.finish_as(first_ns)
    }

    /// The same, with another time in its name.
    pub fn finish_as(self, first_ns: u64) -> PathBuf {
        self.file.set_len(self.at as u64).unwrap();
        let stamp = humantime::format_rfc3339_seconds(at_ns(first_ns)).to_string();
        let stamp = stamp.replace(['-', ':'], "");
        let name = self.path.file_name().unwrap().to_str().unwrap();
        let name = name.replace(".live.", &format!("-{stamp}."));
        let finished = self.path.with_file_name(name);
        fs::rename(&self.path, &finished).unwrap();
        self.file.set_modified(at_ns(self.last_ns)).unwrap();
        finished
    }

    fn commit(&mut self, blocks: &[u8]) {
        self.commit_in_part(blocks);
        self.commit_rest(blocks);
    }

    fn commit_in_part(&self, blocks: &[u8]) {
        let at = self.at as u64;
        self.file.write_all_at(&blocks[8..], at + 8).unwrap();
        self.cover(self.at + blocks.len());
    }

    /// A padding block from here to the end of the segment.
    fn cover(&self, from: usize) {
        let end = (from + 1).next_multiple_of(SEGMENT_BYTES);
        let total = u32::try_from(end - from).unwrap().to_le_bytes();
        self.file.write_all_at(&total, end as u64 - 4).unwrap();
        let head = [PADDING.to_le_bytes(), total].concat();
        self.file.write_all_at(&head, from as u64).unwrap();
    }
}

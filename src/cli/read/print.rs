//! Lines and objects.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;

use super::ReadArgs;
use super::time::Zone;
use crate::read::decode::Fields;
use crate::read::line::printable;
use crate::read::piece::Make;
use crate::read::{Record, line};

/// Makes lines and objects of packets.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    zone: Zone,
    date: bool,
    json: bool,
    verbose: bool,
    hex: bool,
    /// The second that was shown last, and how.
    second: (u64, String),
    line: String,
}

/// A packet as an object; the names stay.
#[derive(Debug, Serialize)]
struct Object<'a> {
    time_ns: u64,
    interface: &'a str,
    length: u32,
    captured: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
    #[serde(skip_serializing_if = "is_zero")]
    mark: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    prefix: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    lost_before: u64,
    info: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Make for Lines {
    fn make(&mut self, record: &Record<'_>, _: u32, out: &mut Vec<u8>) {
        self.put(record, out);
    }
}

impl Lines {
    pub(super) fn new(args: &ReadArgs, zone: Zone) -> Lines {
        Lines {
            zone,
            date: args.date,
            json: args.json,
            verbose: args.verbose,
            hex: args.hex,
            second: (u64::MAX, String::new()),
            line: String::new(),
        }
    }

    /// Appends the line of a packet.
    fn put(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        self.line.clear();
        if self.json {
            line::describe(record, &mut self.line);
            let object = object(record, &self.line);
            // Nothing in it can fail.
            let _ = serde_json::to_writer(&mut *out, &object);
        } else {
            self.stamp(record.time_ns);
            line::describe(record, &mut self.line);
            if self.verbose {
                self.more(record);
            }
            if self.hex {
                line::hex(record, &mut self.line);
            }
            out.extend(self.line.as_bytes());
        }
        out.push(b'\n');
    }

    /// `14:03:05.123456 `
    fn stamp(&mut self, time_ns: u64) {
        let second = time_ns / 1_000_000_000;
        if self.second.0 != second {
            let shown = self
                .zone
                .show(i64::try_from(second).unwrap_or(i64::MAX), self.date);
            self.second = (second, shown);
        }
        self.line.push_str(&self.second.1);
        let _ = write!(self.line, ".{:06} ", time_ns / 1000 % 1_000_000);
    }

    fn more(&mut self, record: &Record<'_>) {
        if !record.interface.name.is_empty() {
            let _ = write!(self.line, ", iface {}", printable(&record.interface.name));
        }
        for text in [record.comment, record.note] {
            if !text.is_empty() {
                let _ = write!(self.line, ", {}", printable(text));
            }
        }
        if record.lost_before != 0 {
            let _ = write!(self.line, ", {} lost before", record.lost_before);
        }
    }
}

fn object<'a>(record: &Record<'a>, info: &'a str) -> Object<'a> {
    let fields = Fields::of(record.interface.link, record.data);
    let address = |address: u128| match fields.version {
        4 => u32::try_from(address)
            .ok()
            .map(|address| IpAddr::V4(address.into())),
        6 => Some(IpAddr::V6(address.into())),
        _ => None,
    };
    Object {
        time_ns: record.time_ns,
        interface: &record.interface.name,
        length: record.original_len,
        captured: record.data.len(),
        source: address(fields.source),
        destination: address(fields.destination),
        protocol: fields.protocol,
        source_port: fields.ports.map(|(source, _)| source),
        destination_port: fields.ports.map(|(_, destination)| destination),
        mark: record.mark().into(),
        prefix: record.prefix(),
        lost_before: record.lost_before,
        info,
    }
}

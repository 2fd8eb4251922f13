//! Packets as lines, made of each record at once: CSV (RFC 4180) or JSON.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use super::digits::Line;
use super::headers::{Headers, Ip};
use super::row::COLUMNS;
use crate::read::anonymize::Anonymizer;
use crate::read::line::printable;
use crate::read::piece::Make;
use crate::read::{Interface, Record};

/// What is remembered of interfaces and of link-layer addresses.
const INTERFACES: usize = 16;
const MACS: usize = 64;

/// How a packet is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line of names, then a line a packet; what is not known is empty.
    Csv,
    /// An object a line and packet; what is not known is not there.
    Json,
}

/// Makes lines of packets.
#[derive(Debug, Clone)]
pub struct Lines {
    format: Format,
    /// How each line begins, up to its time.
    begin: Vec<u8>,
    payload_bytes: usize,
    anonymizer: Option<Anonymizer>,
    /// Interfaces that were seen last, and their columns; which the last packet's is.
    interfaces: Vec<(Interface, Vec<u8>)>,
    interface: usize,
    /// Beginnings of frames, each in the place that follows from it, and their columns.
    macs: Vec<([u8; 12], Vec<u8>)>,
    line: Line,
}

impl Lines {
    /// Lines of this host. Of what is behind the headers so many bytes are written, in hexadecimal digits.
    pub fn new(
        format: Format,
        host: &str,
        payload_bytes: usize,
        anonymizer: Option<Anonymizer>,
    ) -> Lines {
        let mut begin = Vec::new();
        match format {
            Format::Csv => cell(host, &mut begin),
            Format::Json => {
                begin.extend_from_slice(b"{\"host\":");
                string(host, &mut begin);
            }
        }
        begin.extend_from_slice(match format {
            Format::Csv => b",",
            Format::Json => b",\"time_ns\":",
        });
        let mut lines = Lines {
            format,
            begin,
            payload_bytes,
            anonymizer,
            interfaces: Vec::new(),
            interface: 0,
            macs: Vec::new(),
            line: Line::default(),
        };
        let (nobody, columns) = ([0; 12], lines.columns_of_macs([0; 12]));
        lines.macs = vec![(nobody, columns); MACS];
        lines
    }

    /// What stands before all lines.
    pub fn head(&self) -> String {
        let names = COLUMNS.iter().map(|(name, _)| *name);
        let names: Vec<_> = std::iter::once("host").chain(names).collect();
        match self.format {
            Format::Csv => names.join(",") + "\n",
            Format::Json => String::new(),
        }
    }

    /// The place of an interface that is not the last packet's.
    #[cold]
    fn other_interface(&mut self, interface: &Interface) -> usize {
        let known = self
            .interfaces
            .iter()
            .position(|(known, _)| known == interface);
        known.unwrap_or_else(|| {
            let mut columns = Vec::new();
            self.text("source", &interface.description, &mut columns);
            self.text("interface", &interface.name, &mut columns);
            if self.interfaces.len() == INTERFACES {
                self.interfaces.clear();
            }
            self.interfaces.push((interface.clone(), columns));
            self.interfaces.len() - 1
        })
    }

    #[cold]
    fn columns_of_macs(&self, macs: [u8; 12]) -> Vec<u8> {
        let text = |mac: &[u8]| {
            let bytes: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.join(":")
        };
        let mut columns = Vec::new();
        self.text("src_mac", &text(&macs[6..]), &mut columns);
        self.text("dst_mac", &text(&macs[..6]), &mut columns);
        columns
    }

    fn text(&self, name: &str, text: &str, to: &mut Vec<u8>) {
        match self.format {
            Format::Csv => {
                to.push(b',');
                cell(text, to);
            }
            Format::Json if text.is_empty() => {}
            Format::Json => {
                to.extend_from_slice(b",\"");
                to.extend_from_slice(name.as_bytes());
                to.extend_from_slice(b"\":");
                string(text, to);
            }
        }
    }

    #[inline]
    fn put<const JSON: bool>(&mut self, record: &Record<'_>, to: &mut Vec<u8>) {
        let headers = Headers::of(record);
        to.extend_from_slice(&self.begin);
        self.line.number(record.time_ns);
        self.line.end_to(to);
        match self.interfaces.get(self.interface) {
            Some((last, _)) if last == record.interface => {}
            _ => self.interface = self.other_interface(record.interface),
        }
        to.extend_from_slice(&self.interfaces[self.interface].1);
        match (record.flags & 3, JSON) {
            (1, true) => self.line.put(b",\"direction\":\"in\""),
            (2, true) => self.line.put(b",\"direction\":\"out\""),
            (_, true) => {}
            (1, false) => self.line.put(b",in"),
            (2, false) => self.line.put(b",out"),
            (_, false) => self.line.put(b","),
        }
        match headers.macs {
            Some(macs) => {
                let place = usize::from(macs[5] ^ macs[11]) % MACS;
                if self.macs[place].0 != macs {
                    self.macs[place] = (macs, self.columns_of_macs(macs));
                }
                self.line.end_to(to);
                to.extend_from_slice(&self.macs[place].1);
            }
            None if JSON => {}
            None => self.line.put(b",,"),
        }
        let line = &mut self.line;
        match &headers.ip {
            Some(ip) => internet::<JSON>(ip, line),
            None if JSON => {}
            None => line.put(b",,,,,,,,,,,,,,,,,"),
        }
        let captured = record.data.len() as u64;
        number::<JSON, _, _>(line, b"captured_len", Some(captured));
        number::<JSON, _, _>(line, b"original_len", Some(record.original_len));
        if record.comment.is_empty() {
            if !JSON {
                line.put(b",,");
            }
        } else {
            let mark = Some(record.mark()).filter(|mark| *mark != 0);
            number::<JSON, _, _>(line, b"mark", mark);
            line.end_to(to);
            self.text("prefix", record.prefix(), to);
        }
        let line = &mut self.line;
        number::<JSON, _, _>(line, b"lost_before", Some(record.lost_before));
        let payload = &headers.payload[..headers.payload.len().min(self.payload_bytes)];
        match (payload, JSON) {
            ([], true) => line.put(b"}\n"),
            ([], false) => line.put(b",\n"),
            (_, true) => {
                line.put(b",\"payload\":\"");
                line.hex_to(payload, to);
                line.put(b"\"}\n");
            }
            (_, false) => {
                line.put(b",");
                line.hex_to(payload, to);
                line.put(b"\n");
            }
        }
        line.end_to(to);
    }
}

impl Make for Lines {
    #[inline]
    fn make(&mut self, record: &Record<'_>, _: u32, out: &mut Vec<u8>) {
        let mut anonymizer = self.anonymizer.take();
        let changed;
        let record = match &mut anonymizer {
            None => record,
            Some(anonymizer) => {
                changed = anonymizer.record(record);
                &changed
            }
        };
        match self.format {
            Format::Csv => self.put::<false>(record, out),
            Format::Json => self.put::<true>(record, out),
        }
        self.anonymizer = anonymizer;
    }
}

#[inline]
fn internet<const JSON: bool>(ip: &Ip, line: &mut Line) {
    number::<JSON, _, _>(line, b"ip_version", Some(ip.version));
    for (name, address) in [(b"src", ip.src), (b"dst", ip.dst)] {
        if JSON {
            line.put(b",\"");
            line.put(name);
            line.put(b"\":\"");
        } else {
            line.put(b",");
        }
        match u32::try_from(address) {
            Ok(address) if ip.version == 4 => line.dotted(address.to_be_bytes()),
            _ => {
                let _ = write!(line, "{}", Ipv6Addr::from(address));
            }
        }
        if JSON {
            line.put(b"\"");
        }
    }
    number::<JSON, _, _>(line, b"protocol", ip.protocol);
    number::<JSON, _, _>(line, b"src_port", ip.ports.map(|ports| ports.0));
    number::<JSON, _, _>(line, b"dst_port", ip.ports.map(|ports| ports.1));
    number::<JSON, _, _>(line, b"tcp_flags", ip.tcp_flags);
    number::<JSON, _, _>(line, b"tcp_seq", ip.tcp_seq);
    number::<JSON, _, _>(line, b"tcp_ack", ip.tcp_ack);
    number::<JSON, _, _>(line, b"tcp_window", ip.tcp_window);
    number::<JSON, _, _>(line, b"icmp_type", ip.icmp_type);
    number::<JSON, _, _>(line, b"icmp_code", ip.icmp_code);
    number::<JSON, _, _>(line, b"ttl", ip.ttl);
    number::<JSON, _, _>(line, b"ip_id", ip.id);
    number::<JSON, _, _>(line, b"ip_len", ip.len);
    number::<JSON, _, _>(line, b"fragment_offset", ip.fragment_offset);
    number::<JSON, _, _>(line, b"more_fragments", ip.more_fragments);
}

#[inline]
fn number<const JSON: bool, const N: usize, T: Into<u64>>(
    line: &mut Line,
    name: &[u8; N],
    number: Option<T>,
) {
    match number {
        Some(number) => {
            if JSON {
                line.put(b",\"");
                line.put(name);
                line.put(b"\":");
            } else {
                line.put(b",");
            }
            line.number(number.into());
        }
        None if JSON => {}
        None => line.put(b","),
    }
}

/// A text in a cell. Others chose it: where a spreadsheet would take it for a formula an apostrophe stands
/// before it, and there is nothing in it that a terminal would take for a command.
fn cell(text: &str, to: &mut Vec<u8>) {
    let text = printable(text);
    let formula = text.trim_start().starts_with(['=', '+', '-', '@']);
    let quoted = text.contains([',', ';', '"']);
    to.extend_from_slice(if quoted { b"\"" } else { b"" });
    to.extend_from_slice(if formula { b"'" } else { b"" });
    to.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    to.extend_from_slice(if quoted { b"\"" } else { b"" });
}

/// A text in JSON; nothing in it is a terminal's command.
fn string(text: &str, to: &mut Vec<u8>) {
    let escaped = serde_json::Value::from(text).to_string();
    if escaped.bytes().all(|byte| byte.is_ascii() && byte != 0x7f) {
        to.extend_from_slice(escaped.as_bytes());
        return;
    }
    for letter in escaped.chars() {
        if letter.is_control() {
            to.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes());
        } else {
            to.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_chose_is_text() {
        let made = |text: &str| {
            let (mut csv, mut json) = (Vec::new(), Vec::new());
            cell(text, &mut csv);
            string(text, &mut json);
            (
                String::from_utf8(csv).unwrap(),
                String::from_utf8(json).unwrap(),
            )
        };
        let cells = |text: &str| made(text).0;
        assert_eq!(cells("eth0"), "eth0");
        assert_eq!(cells("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(
            cells("@sum(1,\"2\")"),
            "\"'@sum(1,\"\"2\"\")\"",
            "in quotation marks the apostrophe, too"
        );
        assert_eq!(cells(" +1"), "' +1");
        assert_eq!(cells("a;=1"), "\"a;=1\"");
        assert_eq!(cells("a\x1b]0;b\u{9b}\n\t=c"), "\"a?]0;b???=c\"");
        assert_eq!(cells("\t-1"), "?-1");
        let text = "a\x1b\u{9b}\x7f\"\\ü";
        let json = made(text).1;
        assert_eq!(json, "\"a\\u001b\\u009b\\u007f\\\"\\\\ü\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}

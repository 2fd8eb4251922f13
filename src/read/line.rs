//! One line a packet, in tcpdump's manner. Packets that are cut are normal here: what is not there is
//! not said.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use etherparse::{IpNumber, LaxSlicedPacket, TransportSlice};

use super::{Record, decode};

/// What a terminal would take for a command is not shown to it.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, "?"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A path as it is told: whatever its name, in one line.
pub fn shown(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}

/// Appends what tcpdump would say of a packet, behind its time: `IP 192.0.2.1.1234 > 192.0.2.2.80: ...`.
pub fn describe(record: &Record<'_>, out: &mut String) {
    let network = decode::network(record.interface.link, record.data);
    let Some(sliced) = network.and_then(|packet| LaxSlicedPacket::from_ip(packet).ok()) else {
        let link = record.interface.link;
        let _ = match decode::is_known(link) {
            true => write!(out, "not IP, length {}", record.original_len),
            false => write!(
                out,
                "link type {}, length {}",
                decode::link_name(link),
                record.original_len
            ),
        };
        return;
    };
    let Some((from, to, protocol, word)) = addresses(&sliced) else {
        let _ = write!(
            out,
            "cut before its addresses, length {}",
            record.original_len
        );
        return;
    };
    let before = record.data.len() - network.map_or(0, <[u8]>::len);
    let network_len = (record.original_len as usize).saturating_sub(before);
    let _ = write!(out, "{word} ");
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let _ = write!(
                out,
                "{from}.{} > {to}.{}: Flags [",
                tcp.source_port(),
                tcp.destination_port()
            );
            let flags = [
                (tcp.syn(), 'S'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
                (tcp.psh(), 'P'),
                (tcp.ack(), '.'),
                (tcp.urg(), 'U'),
            ];
            let set = flags
                .iter()
                .filter(|(is_set, _)| *is_set)
                .map(|(_, letter)| *letter);
            let set: String = set.collect();
            out.push_str(if set.is_empty() { "none" } else { &set });
            let headers = network_headers(&sliced) + usize::from(tcp.data_offset()) * 4;
            let length = network_len.saturating_sub(headers);
            let _ = write!(out, "], seq {}", tcp.sequence_number());
            if tcp.ack() {
                let _ = write!(out, ", ack {}", tcp.acknowledgment_number());
            }
            let _ = write!(out, ", win {}, length {length}", tcp.window_size());
        }
        Some(TransportSlice::Udp(udp)) => {
            let length = usize::from(udp.length()).saturating_sub(8);
            let _ = write!(
                out,
                "{from}.{} > {to}.{}: UDP, length {length}",
                udp.source_port(),
                udp.destination_port()
            );
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let length = network_len.saturating_sub(network_headers(&sliced));
            let _ = write!(out, "{from} > {to}: ICMP ");
            match (icmp.type_u8(), icmp.bytes5to8()) {
                (kind @ (0 | 8), [id0, id1, seq0, seq1]) => {
                    let way = if kind == 8 { "request" } else { "reply" };
                    let (id, seq) = (
                        u16::from_be_bytes([id0, id1]),
                        u16::from_be_bytes([seq0, seq1]),
                    );
                    let _ = write!(out, "echo {way}, id {id}, seq {seq}, length {length}");
                }
                (kind, _) => {
                    let _ = write!(out, "type {kind} code {}, length {length}", icmp.code_u8());
                }
            }
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let length = network_len.saturating_sub(network_headers(&sliced));
            let (kind, code) = (icmp.type_u8(), icmp.code_u8());
            let _ = write!(
                out,
                "{from} > {to}: ICMP6 type {kind} code {code}, length {length}"
            );
        }
        _ => {
            let length = network_len.saturating_sub(network_headers(&sliced));
            let name = protocol.keyword_str().unwrap_or("protocol");
            let _ = write!(out, "{from} > {to}: {name} {}, length {length}", protocol.0);
        }
    }
}

fn addresses(sliced: &LaxSlicedPacket<'_>) -> Option<(IpAddr, IpAddr, IpNumber, &'static str)> {
    match sliced.net.as_ref()? {
        etherparse::LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                ip.payload().ip_number,
                "IP",
            ))
        }
        etherparse::LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                ip.payload().ip_number,
                "IP6",
            ))
        }
        _ => None,
    }
}

/// Bytes of the headers of IP.
fn network_headers(sliced: &LaxSlicedPacket<'_>) -> usize {
    match &sliced.net {
        Some(etherparse::LaxNetSlice::Ipv4(ip)) => ip.header().slice().len(),
        Some(etherparse::LaxNetSlice::Ipv6(ip)) => 40 + ip.extensions().slice().len(),
        _ => 0,
    }
}

/// The bytes behind the link-layer header, as `tcpdump -x` has them.
pub fn hex(record: &Record<'_>, out: &mut String) {
    let bytes = decode::network(record.interface.link, record.data).unwrap_or(record.data);
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let _ = write!(out, "\n\t0x{:04x}: ", row * 16);
        for pair in chunk.chunks(2) {
            out.push(' ');
            for byte in pair {
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
}

//! Packets that tell who: in their headers, in what these quote, in options and extensions, in what
//! is inside of them. Checksums are right where they are known.
#![allow(missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

/// Addresses, each of which is in some packet.
pub const V4: [[u8; 4]; 8] = [
    [195, 90, 145, 17],
    [195, 90, 145, 18],
    [87, 199, 33, 161],
    [87, 199, 33, 162],
    [151, 61, 203, 77],
    [151, 61, 203, 78],
    [46, 183, 91, 119],
    [46, 183, 91, 120],
];
pub const MACS: [[u8; 6]; 3] = [
    [0xa2, 0x5e, 0x91, 0xa7, 0xc3, 0x11],
    [0xa2, 0x5e, 0x91, 0xa7, 0xc3, 0x12],
    [0xb6, 0x1d, 0x73, 0x2f, 0x99, 0x5b],
];
/// Names, each of which is in some packet or beside one.
pub const NAMES: [&str; 6] = [
    "Alice",
    "secret.example.org",
    "Laptop",
    "Wi-Fi",
    "gateway.lan",
    "CLIENT_RANDOM",
];

pub const ETHERNET: u16 = 1;

/// Of the network 2a0b:5c91:..., the last with an interface identifier made of a MAC.
pub fn v6(number: u8) -> [u8; 16] {
    let mut address = [
        0x2a, 0x0b, 0x5c, 0x91, 0x77, 0xd3, 0x9e, 0x1f, 0x61, 0xb5, 0x43, 0xc9, 0x8d, 0x2e, 0xf7,
        number,
    ];
    if number == 0 {
        let mac = MACS[0];
        let identifier = [
            mac[0] ^ 2,
            mac[1],
            mac[2],
            0xff,
            0xfe,
            mac[3],
            mac[4],
            mac[5],
        ];
        address[8..].copy_from_slice(&identifier);
    }
    address
}

/// A packet, and whether what it tells is in headers, and not in payload.
pub struct Told {
    pub what: &'static str,
    pub link: u16,
    pub frame: Vec<u8>,
    pub by_headers: bool,
}

pub fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([word[0], low]))
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn put(bytes: &mut [u8], at: usize, sum: u16) {
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn len(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap().to_be_bytes()
}

pub fn ip_with(options: &[u8], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let first = 0x40 | u8::try_from(header / 4).unwrap();
    let mut packet = vec![first, 0];
    packet.extend(len(header + payload.len()));
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(V4[0]);
    packet.extend(V4[1]);
    packet.extend(options);
    let header_sum = sum(&[&packet]);
    put(&mut packet, 10, header_sum);
    packet.extend(payload);
    packet
}

pub fn ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip_with(&[], protocol, 0, payload)
}

pub fn ip6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len(payload.len()));
    packet.extend([next, 64]);
    packet.extend(v6(0));
    packet.extend(v6(1));
    packet.extend(payload);
    packet
}

/// The sum of what a transport's checksum has beside its own bytes.
fn pseudo(version: u8, protocol: u8, bytes: usize) -> Vec<u8> {
    let mut pseudo = match version {
        4 => [V4[0], V4[1]].concat(),
        _ => [v6(0), v6(1)].concat(),
    };
    pseudo.extend([0, protocol]);
    pseudo.extend(len(bytes));
    pseudo
}

pub fn udp(version: u8, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = 40_000_u16.to_be_bytes().to_vec();
    datagram.extend(to.to_be_bytes());
    datagram.extend(len(8 + payload.len()));
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let of = sum(&[&pseudo(version, 17, datagram.len()), &datagram]);
    put(&mut datagram, 6, of);
    datagram
}

pub fn tcp(version: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let mut segment = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2];
    segment.push(u8::try_from(5 + options.len() / 4).unwrap() << 4);
    segment.extend([0x10, 1, 0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    let of = sum(&[&pseudo(version, 6, segment.len()), &segment]);
    put(&mut segment, 16, of);
    segment
}

pub fn icmp(kind: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(rest);
    message.extend(payload);
    let of = sum(&[&message]);
    put(&mut message, 2, of);
    message
}

pub fn icmp6(kind: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(rest);
    message.extend(payload);
    let of = sum(&[&pseudo(6, 58, message.len()), &message]);
    put(&mut message, 2, of);
    message
}

pub fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&MACS[0][..], &MACS[1], &kind.to_be_bytes(), packet].concat()
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    ethernet(kind, packet)
}

/// TCP options with addresses, one behind the other with some that have none.
pub fn telling_options() -> Vec<Vec<u8>> {
    let plain = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let announced = [&[30, 16, 0x30, 1][..], &V4[2], &[0x11; 8]].concat();
    let announced6 = [&[30, 28, 0x30, 1][..], &v6(2), &[0x11; 8]].concat();
    let toa = [&[254, 8, 0x10, 0x92][..], &V4[3]].concat();
    vec![
        [&plain[..], &announced].concat(),
        announced6,
        [&toa[..], &plain].concat(),
        // Of a kind that is known, and another length; behind the end of all; without a length.
        [&[2, 6][..], &V4[2], &plain].concat(),
        [&[1, 0][..], &V4[3], &[0, 0]].concat(),
        [&[253, 0][..], &V4[2], &[0, 0]].concat(),
    ]
}

/// Packets of all kinds.
#[allow(clippy::too_many_lines, reason = "a list")]
pub fn packets() -> Vec<Told> {
    let mut all = Vec::new();
    let mut add = |what, by_headers, packet: Vec<u8>| {
        all.push(Told {
            what,
            link: ETHERNET,
            frame: frame(&packet),
            by_headers,
        });
    };
    let name = NAMES[1].as_bytes();
    for options in telling_options() {
        add("TCP option", true, ip(6, &tcp(4, &options, b"")));
        add("TCP option", true, ip6(6, &tcp(6, &options, b"")));
        let quoted = ip(6, &tcp(4, &options, b"abcd"));
        add("quoted", true, ip(1, &icmp(3, [0; 4], &quoted)));
        add("quoted", true, ip(1, &icmp(11, [0; 4], &quoted)));
        let quoted = ip6(6, &tcp(6, &options, b"abcd"));
        add("quoted", true, ip6(58, &icmp6(1, [0; 4], &quoted)));
        add("quoted", true, ip6(58, &icmp6(2, [0, 0, 5, 0], &quoted)));
    }
    let route = [&[7, 11, 12][..], &V4[2], &V4[3], &[0]].concat();
    let stamps = [&[68, 12, 13, 1][..], &V4[4], &[0; 4]].concat();
    let source_route = [&[131, 7, 4][..], &V4[5], &[0]].concat();
    add(
        "source route",
        true,
        ip_with(&source_route, 17, 0, &udp(4, 9, b"abcd")),
    );
    for options in [&route, &stamps] {
        let packet = ip_with(options, 17, 0, &udp(4, 9, b"abcd"));
        add("quoted IP options", true, ip(1, &icmp(3, [0; 4], &packet)));
        add("IP options", true, packet);
    }
    // Quotations with what may stand behind them (RFC 4884, RFC 5837).
    let mut short = ip(17, &udp(4, 9, b"abcd"));
    short.resize(128, 0);
    let about = [
        &[0x20, 0, 0, 0, 0, 28, 2, 0x0f, 0, 1, 0, 0][..],
        &V4[4],
        &[8],
        b"Alice\0\0",
    ]
    .concat();
    let with_extension = [&short[..], &about].concat();
    add(
        "extension",
        true,
        ip(1, &icmp(11, [0, 32, 0, 0], &with_extension)),
    );
    add(
        "old extension",
        true,
        ip(1, &icmp(11, [0; 4], &with_extension)),
    );
    add("redirect", true, {
        ip(1, &icmp(5, V4[5], &ip(17, &udp(4, 9, b"abcd"))))
    });
    let quote_of_quote = ip(1, &icmp(5, V4[5], &ip(17, &udp(4, 9, b""))));
    add(
        "quote of a quote",
        true,
        ip(1, &icmp(3, [0; 4], &quote_of_quote)),
    );
    for kind in [9, 10, 15, 17, 18, 30, 37, 38, 40, 42, 253] {
        let body = [&V4[2][..], &V4[3], b"gateway.lan", &MACS[2]].concat();
        add("ICMP", true, ip(1, &icmp(kind, V4[4], &body)));
    }
    for kind in (130..=161).chain([100, 200, 255]) {
        let body = [&v6(2)[..], &[1, 1], &MACS[2], &v6(3), b"gateway.lan"].concat();
        add("ICMPv6", true, ip6(58, &icmp6(kind, V4[4], &body)));
    }
    // Extension headers.
    let behind = udp(6, 9, b"abcd");
    let home = [&[17, 2, 1, 2, 0, 0, 0xc9, 16][..], &v6(2)].concat();
    let routing = [&[17, 2, 2, 1, 0, 0, 0, 0][..], &v6(3)].concat();
    let segments = [&[17, 4, 4, 1, 1, 0, 0, 0][..], &v6(3), &v6(4)].concat();
    let mobility = [&[59, 3, 5, 0, 0, 0, 0, 0][..], &v6(2), &v6(4)[..8]].concat();
    for (next, header) in [
        (60, &home),
        (43, &routing),
        (43, &segments),
        (135, &mobility),
        (0, &home),
    ] {
        let packet = ip6(next, &[&header[..], &behind].concat());
        add(
            "quoted extension",
            true,
            ip6(58, &icmp6(1, [0; 4], &packet)),
        );
        add("extension header", true, packet);
    }
    // SCTP: beginnings with addresses, and what comes with data.
    let sctp = |chunks: &[&[u8]]| {
        let header = [&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2][..]];
        [&header[..], chunks].concat().concat()
    };
    let beginning = [
        &[
            1, 0, 0, 48, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 3, 0, 5, 0, 8,
        ][..],
        &V4[6],
        &[0, 6, 0, 20],
        &v6(4),
    ]
    .concat();
    let asconf = [
        &[193, 0, 0, 24, 0, 0, 0, 1, 0, 5, 0, 8][..],
        &V4[6],
        &[0xc0, 1, 0, 8, 0, 0, 0, 0],
    ]
    .concat();
    let data = [0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    for chunk in [&beginning, &asconf] {
        add("SCTP", true, ip(132, &sctp(&[chunk])));
        add("SCTP behind data", true, ip6(132, &sctp(&[&data, chunk])));
    }
    // One in the other.
    let inner4 = ip(17, &udp(4, 53, name));
    let inner6 = ip6(17, &udp(6, 53, name));
    for inner in [&inner4, &inner6] {
        let kind = if inner[0] >> 4 == 4 {
            (4, [8, 0])
        } else {
            (41, [0x86, 0xdd])
        };
        add("tunnel", true, ip(kind.0, inner));
        add("tunnel", true, ip6(kind.0, inner));
        let gre = [&[0, 0][..], &kind.1, inner].concat();
        add("GRE", true, ip(47, &gre));
        let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &frame(inner)].concat();
        add("VXLAN", false, ip(17, &udp(4, 4789, &vxlan)));
        let ah = [
            &[kind.0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1][..],
            &[7; 12],
            inner,
        ]
        .concat();
        add("AH", true, ip(51, &ah));
    }
    let report = [&[0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 1][..], &V4[6], &V4[7]].concat();
    add("IGMP", true, ip(2, &report));
    add(
        "OSPF",
        true,
        ip(89, &[&[2, 1, 0, 44][..], &V4[5], &[0; 36]].concat()),
    );
    add(
        "VRRP",
        true,
        ip(112, &[&[0x21, 1, 100, 1, 0, 1, 0, 0][..], &V4[6]].concat()),
    );
    add(
        "PIM",
        true,
        ip(103, &[&[0x23, 0, 0, 0][..], &V4[6]].concat()),
    );
    // Payload.
    let dhcp = [
        &[1, 1, 6, 0][..],
        &[0; 8],
        &V4[2],
        &V4[3],
        &V4[4],
        &V4[5],
        &MACS[2],
        b"Alice",
    ]
    .concat();
    add("DHCP", false, ip(17, &udp(4, 67, &dhcp)));
    add("DNS", false, ip(17, &udp(4, 53, name)));
    add(
        "HTTP",
        false,
        ip6(6, &tcp(6, &[1, 1], b"Host: secret.example.org Alice")),
    );
    add("later part", false, ip_with(&[], 17, 185, name));
    add("later part", true, ip_with(&[], 41, 185, &inner6));
    add(
        "later part",
        false,
        ip6(44, &[&[17, 0, 0x10, 0, 0, 0, 0, 1][..], name].concat()),
    );
    add("echo", false, ip(1, &icmp(8, [0, 1, 0, 1], name)));
    // What a frame has behind its packet.
    let trailer = [&V4[7][..], &MACS[2], b"Alice"].concat();
    for packet in [
        ip(6, &tcp(4, &[], b"")),
        ip6(17, &udp(6, 9, b"")),
        ip(17, b""),
    ] {
        add("trailer", true, [&packet[..], &trailer].concat());
    }
    // A length of zero says nothing of a packet that is not too long for the field.
    for (mut packet, length) in [
        (ip(6, &tcp(4, &[], b"")), 2..4),
        (ip6(17, &udp(6, 9, b"")), 4..6),
    ] {
        packet[length].fill(0);
        add("trailer", true, [&packet[..], &trailer].concat());
    }
    for kind in [13, 14] {
        let body = [&[0; 12][..], &trailer].concat();
        add("time stamp", true, ip(1, &icmp(kind, [0, 1, 0, 1], &body)));
    }
    let mut add = |what, link, frame| {
        all.push(Told {
            what,
            link,
            frame,
            by_headers: what == "not IP",
        });
    };
    for kind in [[0x81, 0], [0x88, 0xa8]] {
        let tagged = [&kind[..], &[0, 7, 8, 0], &inner4].concat();
        add("VLAN", ETHERNET, [&MACS[0][..], &MACS[1], &tagged].concat());
    }
    let arp = [
        &[0, 1, 8, 0, 6, 4, 0, 1][..],
        &MACS[2],
        &V4[2],
        &MACS[1],
        &V4[3],
    ]
    .concat();
    for kind in [0x0806, 0x8035, 0x88cc, 0x0027, 0x8863, 0x0800, 0x86dd] {
        add("not IP", ETHERNET, ethernet(kind, &arp));
    }
    // Other links.
    let cooked = |first: &[u8]| [first, &MACS[2], &[0, 0, 8, 0], &inner4].concat();
    add("SLL", 113, cooked(&[0, 0, 0, 1, 0, 6]));
    let second = [
        &[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6][..],
        &MACS[2],
        &[0, 0],
        &inner4,
    ]
    .concat();
    add("SLL2", 276, second);
    add("raw", 101, inner4.clone());
    add("loopback", 0, [&[2, 0, 0, 0][..], &inner4].concat());
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = u16::try_from(4 + value.len())
            .unwrap()
            .to_le_bytes()
            .to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let address = [&[0, 6, 0, 0][..], &MACS[2], &[0, 0]].concat();
    let nflog = [
        vec![2, 0, 0, 5],
        attribute(8, &address),
        attribute(10, b"Alice\0"),
        attribute(9, &inner4),
    ]
    .concat();
    add("NFLOG", 239, nflog);
    add("unknown", 147, inner4);
    all
}

/// The forms in which an address or name may be read from bytes.
pub fn traces() -> Vec<(String, Vec<u8>)> {
    let mut traces: Vec<(String, Vec<u8>)> = Vec::new();
    let mut bytes = |text: String, bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        traces.push((format!("{text}, as hexadecimal digits"), hex.clone().into()));
        traces.push((
            format!("{text}, as capital ones"),
            hex.to_uppercase().into(),
        ));
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        traces.push((format!("{text}, reversed"), reversed));
        traces.push((text.clone(), bytes.to_vec()));
        traces.push((format!("{text}, as text"), text.into()));
    };
    for address in V4 {
        bytes(std::net::Ipv4Addr::from(address).to_string(), &address);
    }
    for number in 0..5 {
        let address = v6(number);
        bytes(std::net::Ipv6Addr::from(address).to_string(), &address);
        bytes(format!("identifier of {number}"), &address[8..]);
    }
    for mac in MACS {
        let text = |between: &str| mac.map(|byte| format!("{byte:02x}")).join(between);
        bytes(text(":"), &mac);
        bytes(text("-"), &mac);
    }
    for name in NAMES {
        traces.push((name.to_owned(), name.into()));
    }
    traces
}

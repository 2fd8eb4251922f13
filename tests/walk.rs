//! The walk over the kernel's datagrams against neli's parser: on real ones, on random ones, and on
//! real ones with bytes changed, cut off or put in. Same packets or both errors; never a panic.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::io::Cursor;

use common::datagrams::real_datagrams;
use lwnflog::netlink::nfnetlink::{VLAN_PROTO, VLAN_TCI};
use lwnflog::netlink::{Malformed, Messages};
use lwnflog::packet::Packet;
use lwnflog::source::nflog::Batch;
use lwnflog::source::nflog::message::{self as nflog, attribute};
use lwnflog::source::nflog::template::Templates;
use lwnflog::source::{Item, Walk};
use neli::nl::{NlPayload, Nlmsghdr};
use neli::types::{Buffer, GenlBuffer};
use neli::{FromBytes, FromBytesWithInput, Header, Size, ToBytes};
use proptest::prelude::*;

/// What a packet message says, as owned values: by either parser.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Said {
    family: u8,
    group: u16,
    protocol: u16,
    hook: u8,
    mark: u32,
    stamp_ticks: u64,
    ifindex: (u32, u32),
    hw_source: Vec<u8>,
    hw_header: Vec<u8>,
    hw_type: u16,
    prefix: Vec<u8>,
    sequence: Option<u32>,
    payload: Vec<u8>,
    port: u32,
    vlan: Option<[u8; 4]>,
}

impl From<&Packet<'_>> for Said {
    fn from(packet: &Packet<'_>) -> Said {
        Said {
            family: packet.family,
            group: packet.group,
            protocol: packet.protocol,
            hook: packet.hook,
            mark: packet.mark,
            stamp_ticks: packet.stamp_ticks.map_or(0, u64::from),
            ifindex: (packet.ifindex_in, packet.ifindex_out),
            hw_source: packet.hw_source.to_vec(),
            hw_header: packet.hw_header.to_vec(),
            hw_type: packet.hw_type,
            prefix: packet.prefix.to_vec(),
            sequence: packet.sequence,
            payload: packet.payload.to_vec(),
            port: packet.ifindex_port,
            vlan: packet.vlan,
        }
    }
}

/// `struct nfgenmsg` and attributes, for neli.
#[derive(Debug, Size, ToBytes, FromBytesWithInput, Header)]
struct NfMessage {
    family: u8,
    version: u8,
    res_id: u16,
    #[neli(
        input = "input.checked_sub(Self::header_size()).ok_or(neli::err::DeError::InvalidInput(input))?"
    )]
    attributes: GenlBuffer<u16, Buffer>,
}

/// All messages of a datagram by neli: the body of each packet message, until it meets something
/// malformed (then the second value is true).
fn bodies_by_neli(datagram: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut bodies = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let mut cursor = Cursor::new(rest);
        // neli looks into the messages of netlink itself (acknowledgements, the end), and is
        // strict about them; here only their length counts.
        let mut plain = rest.to_vec();
        let kind = rest
            .get(4..6)
            .map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if kind.is_some_and(|kind| kind < 16) {
            plain[4..6].copy_from_slice(&16u16.to_ne_bytes());
            cursor = Cursor::new(&plain);
        }
        // In a debug build neli panics on a length that does not even hold the header.
        if rest
            .first_chunk()
            .is_some_and(|length| u32::from_ne_bytes(*length) < 16)
        {
            return (bodies, true);
        }
        let Ok(message) = Nlmsghdr::<u16, Buffer>::from_bytes(&mut cursor) else {
            return (bodies, true);
        };
        if kind == Some(nflog::PACKET) {
            let NlPayload::Payload(body) = message.nl_payload() else {
                panic!("{message:?}")
            };
            bodies.push(body.as_ref().to_vec());
        }
        let length = u32::from_ne_bytes(*rest.first_chunk().unwrap()) as usize;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    (bodies, false)
}

/// A packet message by neli. `None` where it finds it malformed.
fn packet_by_neli(body: &[u8]) -> Option<Said> {
    let message = NfMessage::from_bytes_with_input(&mut Cursor::new(body), body.len()).ok()?;
    let mut said = Said {
        family: message.family,
        group: u16::from_be(message.res_id),
        hw_type: Packet::HW_TYPE_UNKNOWN,
        ..Said::default()
    };
    let (mut hw_len, mut header) = (usize::MAX, false);
    let (mut ports, mut link_header) = ((0, 0), Vec::new());
    for found in message.attributes.iter() {
        let value: &[u8] = found.nla_payload().as_ref();
        let be16 = || value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        let be32 = || value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match *found.nla_type().nla_type() {
            attribute::PACKET_HDR => {
                (said.protocol, said.hook) = (be16()?, *value.get(2)?);
                header = true;
            }
            attribute::MARK => said.mark = be32()?,
            attribute::TIMESTAMP => {
                let [seconds, micros] =
                    [0, 8].map(|at| Some(u64::from_be_bytes(*value.get(at..)?.first_chunk()?)));
                said.stamp_ticks = seconds?
                    .checked_mul(1_000_000)
                    .and_then(|us| us.checked_add(micros?))
                    .unwrap_or(0);
                micros?;
            }
            attribute::IFINDEX_INDEV => said.ifindex.0 = be32()?,
            attribute::IFINDEX_OUTDEV => said.ifindex.1 = be32()?,
            attribute::HWADDR => {
                said.hw_source = value
                    .get(4..4 + usize::from(be16()?))
                    .unwrap_or_default()
                    .to_vec();
            }
            attribute::PAYLOAD => said.payload = value.to_vec(),
            attribute::IFINDEX_PHYSINDEV => ports.0 = be32()?,
            attribute::IFINDEX_PHYSOUTDEV => ports.1 = be32()?,
            attribute::L2HDR => link_header = value.to_vec(),
            attribute::VLAN => said.vlan = vlan_by_neli(value)?,
            attribute::PREFIX => said.prefix = value.strip_suffix(&[0]).unwrap_or(value).to_vec(),
            attribute::SEQ => said.sequence = Some(be32()?),
            attribute::HWTYPE => said.hw_type = be16()?,
            attribute::HWHEADER => said.hw_header = value.to_vec(),
            attribute::HWLEN => hw_len = usize::from(be16()?),
            _ => {}
        }
    }
    if hw_len <= said.hw_header.len() {
        said.hw_header.truncate(hw_len);
    }
    // On the way out a port is of the bridge that the packet leaves by: at egress, output and postrouting.
    let out = match said.family {
        5 => said.hook == 1,
        _ => said.hook == 3 || said.hook == 4,
    };
    said.port = match (ports, said.ifindex) {
        ((_, port), (_, 1..)) if out => port,
        ((0, port), (0, _)) | ((port, _), _) => port,
    };
    // Netdev egress: the payload begins at the link-layer header.
    if (said.family, said.hook) == (5, 1) && !link_header.is_empty() {
        let cut = link_header.len().min(said.payload.len());
        if said.payload[..cut] == link_header[..cut] {
            said.payload.drain(..cut);
        } else {
            said.protocol = 0;
        }
        (said.hw_header, said.hw_type) = (link_header, 1);
    }
    header.then_some(said)
}

/// The tag in a nested attribute; the outer `None`: malformed.
fn vlan_by_neli(nested: &[u8]) -> Option<Option<[u8; 4]>> {
    let all =
        GenlBuffer::<u16, Buffer>::from_bytes_with_input(&mut Cursor::new(nested), nested.len());
    let (mut protocol, mut tci) = (None, None);
    for found in all.ok()?.iter() {
        let value: &[u8] = found.nla_payload().as_ref();
        match *found.nla_type().nla_type() {
            VLAN_PROTO => protocol = Some(*value.first_chunk::<2>()?),
            VLAN_TCI => tci = Some(*value.first_chunk::<2>()?),
            _ => {}
        }
    }
    let both = protocol.zip(tci);
    Some(both.map(|([p0, p1], [t0, t1])| [p0, p1, t0, t1]))
}

/// What our walk finds: each packet, or that it is malformed.
fn by_walk(datagram: &[u8]) -> Vec<Result<Said, Malformed>> {
    let mut found = Vec::new();
    let mut templates = Templates::default();
    let mut batch = Batch::new(datagram, &mut templates);
    while let Some(item) = batch.next() {
        found.push(match item {
            Item::Packet(packet) => Ok(Said::from(packet)),
            Item::Malformed(error) => Err(error),
        });
    }
    found
}

/// neli wants the padding behind a last attribute, which the walk does without.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded
}

fn assert_same(datagram: &[u8]) {
    by_walk(datagram);
    // The kernel's datagrams are aligned; of others neli misses the padding.
    let datagram = &datagram[..datagram.len() & !3];
    let found = by_walk(datagram);
    let (bodies, broken) = bodies_by_neli(datagram);
    let framing_broken = Messages::new(datagram).any(|message| message.is_err());
    assert_eq!(framing_broken, broken, "{datagram:02x?}");
    assert_eq!(
        found.len(),
        bodies.len() + usize::from(broken),
        "{datagram:02x?}"
    );
    for (ours, body) in found.iter().zip(&bodies) {
        match (ours, packet_by_neli(body)) {
            (Ok(ours), Some(theirs)) => assert_eq!(ours, &theirs),
            (Err(_), None) => {}
            (Ok(ours), None) => {
                let theirs = packet_by_neli(&padded(body));
                assert_eq!(Some(ours), theirs.as_ref(), "{body:02x?}");
            }
            (Err(error), Some(theirs)) => panic!("{error} but neli: {theirs:?} in {body:02x?}"),
        }
    }
}

#[test]
fn real_datagrams_are_read_as_neli_reads_them() {
    let datagrams = real_datagrams();
    assert!(datagrams.len() >= 2);
    let mut packets = Vec::new();
    for datagram in &datagrams {
        assert_same(datagram);
        packets.extend(by_walk(datagram).into_iter().map(Result::unwrap));
    }
    let numbers: Vec<_> = packets
        .iter()
        .map(|packet| packet.sequence.unwrap())
        .collect();
    assert_eq!(
        numbers,
        Vec::from_iter(0..u32::try_from(packets.len()).unwrap())
    );
    assert!(packets.iter().all(|packet| packet.group == 5
        && packet.protocol == 0x0800
        && packet.hw_header.len() == 14));
    assert!(
        packets
            .iter()
            .any(|packet| packet.mark == 0x2a && packet.prefix == b"by the cable")
    );
    assert!(
        packets
            .iter()
            .any(|packet| packet.mark == 0 && packet.prefix.is_empty())
    );
}

/// A change to a datagram.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Swap(prop::sample::Index, prop::sample::Index),
    /// A length field gets a length that is nearly right: where random bytes never lead.
    Length(prop::sample::Index, i8),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
        at().prop_map(Change::Cut),
        (at(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        (at(), any::<i8>()).prop_map(|(at, by)| Change::Length(at, by)),
    ]
}

fn apply(datagram: &mut Vec<u8>, change: &Change) {
    if datagram.is_empty() {
        return;
    }
    let len = datagram.len();
    match change {
        Change::Set(at, value) => datagram[at.index(len)] = *value,
        Change::Cut(at) => datagram.truncate(at.index(len)),
        Change::Insert(at, bytes) => {
            let at = at.index(len);
            datagram.splice(at..at, bytes.iter().copied());
        }
        Change::Swap(a, b) => datagram.swap(a.index(len), b.index(len)),
        Change::Length(at, by) => {
            let at = at.index(len) & !3;
            datagram[at] = datagram[at].wrapping_add_signed(*by);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn changed_datagrams_are_read_as_neli_reads_them(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let datagrams = real_datagrams();
        let mut datagram = which.get(&datagrams).to_vec();
        datagram.truncate(2000);
        changes.iter().for_each(|change| apply(&mut datagram, change));
        assert_same(&datagram);
    }

    #[test]
    fn random_bytes_are_read_as_neli_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        assert_same(&bytes);
    }

    /// Random attributes behind right headers: what random bytes alone never get to.
    #[test]
    fn random_attributes_are_read_as_neli_reads_them(
        attributes in prop::collection::vec((0u16..20, prop::collection::vec(any::<u8>(), 0..24)), 0..14),
        cut in 0usize..8,
    ) {
        let mut body = vec![2, 0, 0, 5];
        for (kind, value) in &attributes {
            body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body.truncate(body.len().saturating_sub(cut.saturating_sub(4)).max(4));
        let mut datagram = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        datagram.extend(nflog::PACKET.to_ne_bytes());
        datagram.extend([0; 10]);
        datagram.extend(body);
        assert_same(&datagram);
    }
}

/// Records `tests/data/nflog-datagrams.bin` anew: `cargo test --test walk -- --ignored`.
#[test]
#[ignore = "writes the test data that the others read"]
fn record_datagrams() {
    use lwnflog::lab::Traffic;
    use lwnflog::sys::netlink::{borrow, receive, set_receive_timeout};
    use neli::consts::socket::{Msg, NlFamily};
    use neli::socket::NlSocket;
    use neli::utils::Groups;

    let lab = common::lab();
    common::nft(
        lab.receiver(),
        "table ip t { chain c { type filter hook prerouting priority -300; policy accept; \
         udp length > 100 meta mark set 0x2a log prefix \"by the cable\" group 5 return; log group 5; }\n}",
    );
    let socket = lab
        .receiver()
        .run(|| NlSocket::connect(NlFamily::Netfilter, None, Groups::empty()).unwrap())
        .unwrap();
    set_receive_timeout(borrow(&socket), std::time::Duration::from_millis(500)).unwrap();
    let mut body = vec![0, 0, 0, 5];
    let settings: [(u16, &[u8]); 6] = [
        (1, &[1]),
        (2, &[0, 0, 0, 128, 2, 0]),
        (3, &[0, 0, 16, 0]),
        (4, &[0, 0, 0, 10]),
        (5, &[0, 0, 0, 100]),
        (6, &[0, 1]),
    ];
    for (kind, value) in settings {
        body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut request = u32::try_from(body.len() + 16)
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    request.extend(nflog::CONFIG.to_ne_bytes());
    request.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // a request, no answer asked for
    request.extend(body);
    socket.send(&request, Msg::empty()).unwrap();
    Traffic::new(64, 30).send(&lab, None).unwrap();
    Traffic::new(300, 30).send(&lab, None).unwrap();
    Traffic::new(64, 3).send(&lab, None).unwrap();
    let (mut data, mut buffer) = (Vec::new(), vec![0; 1 << 18]);
    while let Ok(received) = receive(borrow(&socket), &mut buffer, true) {
        data.extend(u32::try_from(received.bytes).unwrap().to_le_bytes());
        data.extend(&buffer[..received.bytes]);
    }
    std::fs::write(
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/nflog-datagrams.bin"
        ),
        data,
    )
    .unwrap();
}

//! Reads capture files with `pcap-parser`, every byte.

use std::path::{Path, PathBuf};

use lwnflog::format::pcapng::{block, reader};
use lwnflog::lab::Marker;
use pcap_parser::pcapng::{Block, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{OptionCode, PcapNGOption, parse_pcap};

/// One packet as a file has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub interface: u32,
    pub stamp_ticks: u64,
    pub original: u32,
    pub data: Vec<u8>,
    pub comment: Option<String>,
    pub dropcount: u64,
    pub flags: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// The power of ten of ticks in a second; 0 of a classic file.
    pub tsresol: u8,
    pub name: String,
    pub description: String,
    pub link: i32,
    pub snaplen: u32,
}

/// What an Interface Statistics Block says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    pub interface: u32,
    pub accepted: u64,
    pub dropped: u64,
    pub delivered: u64,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    pub segment_bytes: usize,
    pub interfaces: Vec<Interface>,
    pub packets: Vec<Record>,
    pub statistics: Vec<Statistics>,
    pub padding_blocks: usize,
}

impl Contents {
    pub fn sequence_numbers(&self) -> Vec<u64> {
        let marker = |packet: &Record| {
            Marker::of_frame(&packet.data).or_else(|| Marker::of_packet(&packet.data))
        };
        self.packets
            .iter()
            .map(|packet| marker(packet).expect("a packet of this test").sequence)
            .collect()
    }

    pub fn dropcounts(&self) -> u64 {
        self.packets.iter().map(|packet| packet.dropcount).sum()
    }
}

pub fn read(path: &Path) -> Contents {
    parse(&std::fs::read(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All packets of several files, in order.
pub fn read_all(paths: &[PathBuf]) -> Contents {
    let mut all = Contents::default();
    for path in paths {
        let contents = read(path);
        all.packets.extend(contents.packets);
        all.statistics.extend(contents.statistics);
        all.interfaces = contents.interfaces;
    }
    all
}

/// Reads every byte of a file, pcapng or pcap. Nothing unknown is passed over but our padding
/// blocks, no block may cross a segment, no packet may name an interface that was not declared
/// before.
pub fn parse(bytes: &[u8]) -> Result<Contents, String> {
    match bytes.first_chunk::<4>() {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => parse_classic(bytes),
        _ => parse_ng(bytes),
    }
}

/// The packets of a whole pcapng file: in which segment each stands, and its time stamp.
pub fn packet_places(bytes: &[u8]) -> Vec<(usize, u64)> {
    let segment_bytes = parse(bytes).unwrap().segment_bytes;
    let (mut at, mut places) = (0, Vec::new());
    while let Some(block) = reader::Block::read(&bytes[at..]) {
        if let Some(stamp_ticks) = block.stamp_ticks() {
            places.push((at / segment_bytes, stamp_ticks));
        }
        at += block.bytes().len();
    }
    places
}

fn parse_classic(bytes: &[u8]) -> Result<Contents, String> {
    let (rest, capture) = parse_pcap(bytes).map_err(|error| format!("pcap: {error:?}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes behind the last packet", rest.len()));
    }
    let link = capture.header.network.0;
    let interface = Interface {
        link,
        snaplen: capture.header.snaplen,
        ..Interface::default()
    };
    let packets = capture.blocks.iter().map(|block| Record {
        stamp_ticks: u64::from(block.ts_sec) * 1_000_000 + u64::from(block.ts_usec),
        original: block.origlen,
        data: block.data.to_vec(),
        ..Record::default()
    });
    Ok(Contents {
        interfaces: vec![interface],
        packets: packets.collect(),
        ..Contents::default()
    })
}

fn parse_ng(bytes: &[u8]) -> Result<Contents, String> {
    let mut contents = Contents {
        segment_bytes: usize::MAX,
        ..Contents::default()
    };
    let mut at = 0;
    while at < bytes.len() {
        let (rest, found) = parse_block_le(&bytes[at..]).map_err(|error| {
            let head = &bytes[at..bytes.len().min(at + 16)];
            format!(
                "no block at {at} of {}: {head:02x?} {:?}",
                bytes.len(),
                error.map_input_len()
            )
        })?;
        let end = bytes.len() - rest.len();
        let trailer = u32::from_le_bytes(bytes[end - 4..end].try_into().unwrap());
        if trailer as usize != end - at {
            return Err(format!(
                "block at {at}: {} bytes, but it ends in {trailer}",
                end - at
            ));
        }
        if at / contents.segment_bytes != (end - 1) / contents.segment_bytes {
            return Err(format!(
                "block at {at} to {end} crosses a segment of {}",
                contents.segment_bytes
            ));
        }
        take(&mut contents, &found).map_err(|error| format!("block at {at}: {error}"))?;
        at = end;
    }
    Ok(contents)
}

trait MapInputLen {
    fn map_input_len(&self) -> String;
}

impl MapInputLen for pcap_parser::nom::Err<pcap_parser::PcapError<&[u8]>> {
    fn map_input_len(&self) -> String {
        match self {
            pcap_parser::nom::Err::Incomplete(needed) => format!("incomplete: {needed:?}"),
            pcap_parser::nom::Err::Error(_) | pcap_parser::nom::Err::Failure(_) => {
                "not a valid block".to_owned()
            }
        }
    }
}

fn take(contents: &mut Contents, found: &Block<'_>) -> Result<(), String> {
    match found {
        Block::SectionHeader(header) => {
            let comment = text(&header.options, OptionCode::Comment).unwrap_or_default();
            if comment.starts_with("lwnflog stream") {
                return Ok(()); // which has no segments
            }
            let notes = comment
                .strip_prefix("lwnflog segment=")
                .ok_or("no segment size")?;
            let note = notes.split(' ').next().unwrap_or_default();
            contents.segment_bytes = note.parse().map_err(|_| format!("segment size `{note}`"))?;
        }
        Block::InterfaceDescription(interface) => {
            if !matches!(interface.if_tsresol, 6 | 9) {
                return Err(format!("time in units of 10^-{}", interface.if_tsresol));
            }
            contents.interfaces.push(Interface {
                name: text(&interface.options, OptionCode::IfName).unwrap_or_default(),
                description: text(&interface.options, OptionCode::IfDescription)
                    .unwrap_or_default(),
                link: interface.linktype.0,
                snaplen: interface.snaplen,
                tsresol: interface.if_tsresol,
            });
        }
        Block::EnhancedPacket(packet) => {
            if packet.if_id as usize >= contents.interfaces.len() {
                return Err(format!("interface {} is not declared", packet.if_id));
            }
            contents.packets.push(Record {
                interface: packet.if_id,
                stamp_ticks: u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
                original: packet.origlen,
                data: packet.packet_data().to_vec(),
                comment: text(&packet.options, OptionCode::Comment),
                dropcount: value(&packet.options, OptionCode(4)),
                flags: u32::try_from(value(&packet.options, OptionCode(2))).unwrap(),
            });
        }
        Block::InterfaceStatistics(statistics) => {
            if statistics.if_id as usize >= contents.interfaces.len() {
                return Err(format!(
                    "statistics of interface {}, which is not declared",
                    statistics.if_id
                ));
            }
            contents.statistics.push(Statistics {
                interface: statistics.if_id,
                accepted: value(&statistics.options, OptionCode::IsbFilterAccept),
                dropped: value(&statistics.options, OptionCode::IsbOsDrop),
                delivered: value(&statistics.options, OptionCode::IsbUsrDeliv),
            });
        }
        Block::Unknown(padding) if padding.block_type == block::PADDING => {
            contents.padding_blocks += 1
        }
        other => return Err(format!("{other:?}")),
    }
    Ok(())
}

fn option<'a>(options: &'a [PcapNGOption<'_>], code: OptionCode) -> Option<&'a [u8]> {
    let found = options.iter().find(|option| option.code == code)?;
    Some(&found.value[..usize::from(found.len)])
}

fn text(options: &[PcapNGOption<'_>], code: OptionCode) -> Option<String> {
    option(options, code).map(|bytes| std::str::from_utf8(bytes).expect("UTF-8").to_owned())
}

fn value(options: &[PcapNGOption<'_>], code: OptionCode) -> u64 {
    let bytes = option(options, code).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

//! Reading capture files with a parser that is not this project's own.

use std::fs::File;
use std::path::Path;

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

use super::LabError;

/// Ethernet frames.
pub const LINKTYPE_ETHERNET: i32 = 1;
/// Packets that begin with an IPv4 or IPv6 header.
pub const LINKTYPE_RAW: i32 = 101;
/// Packets that begin with an IPv4 header.
pub const LINKTYPE_IPV4: i32 = 228;
/// Netfilter's log messages.
pub const LINKTYPE_NFLOG: i32 = 239;

/// More than the largest block that capture tools write, padding blocks of a mapped ring included.
const BUFFER_LEN: usize = 16 << 20;

/// One packet of a capture file.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// What its first byte is: one of the LINKTYPE constants.
    pub link_type: i32,
    /// The bytes that were captured.
    pub data: &'a [u8],
    /// How many there were on the wire.
    pub original_len: usize,
}

/// Calls `each` for every packet of a pcap or pcapng file, in order.
///
/// An empty file has no packets; one that breaks off within a record is an error, after all that
/// is whole has been handed over.
pub fn read_trace(path: &Path, mut each: impl FnMut(Record<'_>)) -> Result<(), LabError> {
    let failed = |reason: String| LabError::Trace {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut reader = match create_reader(BUFFER_LEN, file) {
        Ok(reader) => reader,
        Err(PcapError::Eof) => return Ok(()),
        Err(error) => return Err(failed(format!("{error:?}"))),
    };
    let mut link_types = Vec::new();
    loop {
        let consumed = match reader.next() {
            Ok((len, block)) => {
                hand_over(&block, &mut link_types, &mut each);
                Some(len)
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => None,
            Err(PcapError::UnexpectedEof) => {
                return Err(failed("it ends within a record".to_owned()));
            }
            Err(error) => return Err(failed(describe(&error))),
        };
        match consumed {
            Some(len) => reader.consume(len),
            None => reader.refill().map_err(|error| failed(describe(&error)))?,
        }
    }
}

fn hand_over(
    block: &PcapBlockOwned<'_>,
    link_types: &mut Vec<i32>,
    each: &mut impl FnMut(Record<'_>),
) {
    let length = |len: u32| usize::try_from(len).unwrap_or(usize::MAX);
    match block {
        PcapBlockOwned::LegacyHeader(header) => *link_types = vec![header.network.0],
        PcapBlockOwned::Legacy(packet) => each(Record {
            link_type: link_types.first().copied().unwrap_or(0),
            data: packet.data,
            original_len: length(packet.origlen),
        }),
        PcapBlockOwned::NG(Block::SectionHeader(_)) => link_types.clear(),
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            link_types.push(interface.linktype.0);
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => each(Record {
            link_type: link_types.get(length(packet.if_id)).copied().unwrap_or(0),
            data: packet.packet_data(),
            original_len: length(packet.origlen),
        }),
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => each(Record {
            link_type: link_types.first().copied().unwrap_or(0),
            data: packet.packet_data(),
            original_len: length(packet.origlen),
        }),
        PcapBlockOwned::NG(_) => {}
    }
}

/// A parser's error without the bytes it carries.
fn describe(error: &PcapError<&[u8]>) -> String {
    match error {
        PcapError::NomError(_, kind) => format!("it cannot be parsed: {kind:?}"),
        other => format!("{other:?}"),
    }
}

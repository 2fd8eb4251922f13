//! pcapng (draft-ietf-opsawg-pcapng), little endian: the default format.
//!
//! A file is a Section Header Block, an Interface Description Block for each interface before its
//! first packet, Enhanced Packet Blocks, and at the end an Interface Statistics Block for each
//! interface. Unused space is taken up by padding blocks, of a type from the local-use range, which
//! readers skip (docs/FORMAT.md).

pub mod block;
mod comment;
pub mod interfaces;
pub mod reader;
pub mod template;

use super::{Context, Format, Frame, Head, Interfaces, LinkType, Options, RecordTemplate, Space};
use crate::packet::{Packet, Resolution, TemplateHit};
use block::{Block, head, len_u32, option, pad4};
use comment::{
    COMMENT_OPTION_BYTES_MAX, NOTE_OPTION_BYTES_MAX, comment_option_bytes, encode_comment_option,
};
use template::{OPTIONS_PLAIN_BYTES, PACKET_FIXED_BYTES, options_plain, put_fields};

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// `epb_dropcount`: code, length, 64 bits.
const DROPCOUNT_BYTES: usize = 12;
/// The pcapng writer.
#[derive(Debug)]
pub struct PcapNg {
    link: LinkType,
    snaplen: u32,
    source: String,
    segment_bytes: usize,
    boot_id: Option<String>,
    resolution: Resolution,
    interfaces: Interfaces,
    /// What is still to be said of changes: empty, or a whole option.
    note: Vec<u8>,
}

impl PcapNg {
    /// A writer for frames of `link`, cut to `snaplen` bytes. `source` says in every interface's
    /// description where the packets come from; `segment_bytes` is noted in the file, for repair.
    pub fn new(
        link: LinkType,
        snaplen: u32,
        source: String,
        segment_bytes: usize,
        interfaces: Interfaces,
    ) -> Self {
        PcapNg {
            link,
            snaplen,
            source,
            segment_bytes,
            boot_id: None,
            resolution: Resolution::Micros,
            interfaces,
            note: Vec::new(),
        }
    }

    /// Notes in each file which boot of the machine it is written in
    /// ([`boot_id`](crate::ring::recovery::boot_id)), so that repair knows whether pages of it may
    /// be missing.
    pub fn with_boot_id(mut self, boot_id: Option<String>) -> Self {
        self.boot_id = boot_id;
        self
    }

    /// Has packets' times in ticks of `resolution` (microseconds, if this is not called).
    pub fn with_resolution(mut self, resolution: Resolution) -> Self {
        self.resolution = resolution;
        self
    }

    /// Says its own id, too: where an earlier one is lost with its page, repair has to know.
    fn interface_description(&self, id: usize) -> Vec<u8> {
        let mut block = Block::new(block::INTERFACE_DESCRIPTION);
        block.u16(self.link.number());
        block.u16(0);
        block.u32(self.snaplen);
        let interface = self.interfaces.all().get(id);
        let name = interface.map(|interface| &*interface.name);
        block.option(option::IF_NAME, name.unwrap_or_default().as_bytes());
        let mut description = self.source.clone();
        if let Some(bridge) = interface.and_then(|interface| interface.bridge.as_ref()) {
            description += &format!(", port of the bridge {bridge}");
        }
        block.option(option::IF_DESCRIPTION, description.as_bytes());
        block.option(option::IF_TSRESOL, &[self.resolution.exponent()]);
        block.option(
            option::COMMENT,
            format!("lwnflog interface={id}").as_bytes(),
        );
        block.finish()
    }

    fn section_header(&self) -> Vec<u8> {
        let mut block = Block::new(block::SECTION_HEADER);
        block.u32(BYTE_ORDER_MAGIC);
        block.u16(1);
        block.u16(0);
        block.u64(u64::MAX); // section length: not said
        // A stream has no segments.
        let mut comment = match self.segment_bytes {
            0 => "lwnflog stream".to_owned(),
            bytes => format!("lwnflog segment={bytes}"),
        };
        if let Some(boot_id) = &self.boot_id {
            comment.push_str(" boot=");
            comment.push_str(boot_id);
        }
        block.option(option::COMMENT, comment.as_bytes());
        block.option(option::SHB_OS, std::env::consts::OS.as_bytes());
        block.option(
            option::SHB_USERAPPL,
            concat!("lwnflog ", env!("CARGO_PKG_VERSION")).as_bytes(),
        );
        block.finish()
    }

    fn statistics(id: u32, interface: &interfaces::Interface, note: &[u8]) -> Vec<u8> {
        let mut block = Block::new(block::INTERFACE_STATISTICS);
        block.u32(id);
        block.stamp(interface.last_ticks);
        block.option_stamp(option::ISB_STARTTIME, interface.first_ticks);
        block.option_stamp(option::ISB_ENDTIME, interface.last_ticks);
        let accepted = interface.packets + interface.lost;
        block.option(option::ISB_FILTERACCEPT, &accepted.to_le_bytes());
        block.option(option::ISB_OSDROP, &interface.lost.to_le_bytes());
        block.option(option::ISB_USRDELIV, &interface.packets.to_le_bytes());
        if !note.is_empty() {
            block.option(option::COMMENT, comment::text_of(note));
        }
        block.finish()
    }

    /// The interfaces seen so far and their figures.
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }
}

/// Bytes of an Interface Statistics Block as [`PcapNg::statistics`] writes it.
const STATISTICS_BYTES: usize = 12 + 4 + 8 + 5 * 12 + 4;
/// No more statistics blocks than these are written a file.
const STATISTICS_MAX: usize = 256;

impl Format for PcapNg {
    const EXTENSION: &'static str = "pcapng";
    const PADDING_BLOCKS: bool = true;

    fn resolution(&self) -> Resolution {
        self.resolution
    }

    fn begin(&mut self, emit: &mut dyn FnMut(&[u8])) {
        self.interfaces.begin_file();
        emit(&self.section_header());
    }

    fn lose(&mut self, packets: u64) {
        self.interfaces.lose(packets);
    }

    fn end(&mut self, emit: &mut dyn FnMut(&[u8])) {
        let interfaces = (0..).zip(self.interfaces.all()).take(STATISTICS_MAX);
        // One that is to be declared in the next file has no packet yet.
        for (id, interface) in interfaces.filter(|(_, interface)| interface.packets != 0) {
            // No record has come that would carry it.
            emit(&Self::statistics(
                id,
                interface,
                &std::mem::take(&mut self.note),
            ));
        }
    }

    fn end_bytes(&self) -> usize {
        // A file that begins with no interface known may meet its first one.
        STATISTICS_BYTES * self.interfaces.all().len().clamp(1, STATISTICS_MAX)
            + NOTE_OPTION_BYTES_MAX
    }

    fn set_snaplen(&mut self, snaplen: u32, segment_bytes: usize) {
        (self.snaplen, self.segment_bytes) = (snaplen, segment_bytes);
    }

    fn note(&mut self, text: &str) {
        self.note = comment::note_option(&self.note, text);
    }

    #[inline]
    fn interface(&mut self, ifindex: u32) -> Option<usize> {
        self.interfaces.find(ifindex)
    }

    fn set_name(&mut self, ifindex: u32, name: Option<&str>) {
        self.interfaces.set_name(ifindex, name);
    }

    fn declare(&mut self, packet: &Packet<'_>) -> Vec<u8> {
        let id = self
            .interfaces
            .add(packet.ifindex(), packet.ifindex_bridge());
        self.interface_description(id)
    }

    #[inline]
    fn record_bytes(&self, packet: &Packet<'_>, frame: &Frame<'_>, context: &Context) -> usize {
        let mut bytes = PACKET_FIXED_BYTES + pad4(frame.captured_len()) + OPTIONS_PLAIN_BYTES + 4;
        if context.lost_before != 0 {
            bytes += DROPCOUNT_BYTES;
        }
        bytes + comment_option_bytes(packet) + self.note.len()
    }

    #[inline]
    fn encode(
        &mut self,
        packet: &Packet<'_>,
        frame: &Frame<'_>,
        context: &Context,
        mut out: Space<'_>,
    ) -> Head {
        self.interfaces.count(
            context.interface,
            1,
            context.stamp_ticks,
            context.lost_before,
        );
        let captured = frame.captured_len();
        let total = len_u32(out.len()).to_le_bytes();

        let head = head(block::ENHANCED_PACKET, total);
        let (Some(fixed), Some(mut trailer), Some(mut data)) = (
            out.take_first_chunk(),
            out.take_last_chunk::<4>(),
            out.take_first(pad4(captured)),
        ) else {
            debug_assert!(false, "record_bytes() made room");
            return head;
        };
        let interface = len_u32(context.interface);
        put_fields(
            fixed,
            interface,
            context.stamp_ticks,
            captured,
            frame.original_len,
        );

        if let Some(mut padding) = data.last_chunk::<4>() {
            padding.put([0; 4]); // of which the frame's end overwrites its part
        }
        frame.copy_to(data);

        let plain = options_plain(packet.direction());
        if out.len() == OPTIONS_PLAIN_BYTES {
            if let Some(mut options) = out.first_chunk() {
                options.put(plain);
            }
        } else {
            put_options(packet, context, plain, &self.note, out);
            self.note.clear();
        }
        trailer.put(total);
        head
    }

    fn template(
        &self,
        packet: &Packet<'_>,
        link: LinkType,
        snaplen: u32,
        interface: usize,
    ) -> Option<(RecordTemplate, Options)> {
        let options_bytes = comment_option_bytes(packet);
        let options = Options::new(options_bytes, |out| encode_comment_option(packet, out))?;
        Some((
            RecordTemplate::new(packet, link, snaplen, interface, self.resolution)?,
            options,
        ))
    }

    #[inline]
    fn hit_bytes(template: &RecordTemplate, options: &[u8], body: &[u8]) -> usize {
        template::hit_bytes(template, options, body)
    }

    #[inline]
    fn encode_hit(
        template: &RecordTemplate,
        options: &[u8],
        hit: &TemplateHit<'_>,
        body: &[u8],
        out: Space<'_>,
    ) -> Head {
        template::encode_hit(template, options, hit, body, out)
    }

    fn count_hits(&mut self, template: &RecordTemplate, records: u64, last_ticks: u64) {
        self.interfaces
            .count(template.interface as usize, records, last_ticks, 0);
    }

    fn record_bytes_max(snaplen: usize) -> usize {
        PACKET_FIXED_BYTES
            + pad4(snaplen)
            + COMMENT_OPTION_BYTES_MAX
            + NOTE_OPTION_BYTES_MAX
            + DROPCOUNT_BYTES
            + OPTIONS_PLAIN_BYTES
            + 4
    }
}

/// The comment, a note, the number of packets lost before, the direction.
fn put_options(
    packet: &Packet<'_>,
    context: &Context,
    plain: [u8; OPTIONS_PLAIN_BYTES],
    note: &[u8],
    mut out: Space<'_>,
) {
    let mut comment = [0; COMMENT_OPTION_BYTES_MAX];
    let comment = &mut comment[..comment_option_bytes(packet)];
    encode_comment_option(packet, comment);
    if let Some(place) = out.take_first(comment.len()) {
        place.put(comment);
    }
    if let Some(place) = out.take_first(note.len()) {
        place.put(note);
    }
    if context.lost_before != 0
        && let Some(mut drop) = out.take_first_chunk::<DROPCOUNT_BYTES>()
    {
        drop.put_at::<0, 2>(option::EPB_DROPCOUNT.to_le_bytes());
        drop.put_at::<2, 2>(8u16.to_le_bytes());
        drop.put_at::<4, 8>(context.lost_before.to_le_bytes());
    }
    out.put(&plain);
}

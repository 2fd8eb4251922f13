//! Making an index, some segments at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::keys::Keys;
use super::{Filters, Index, SEGMENT_BYTES, Segment, TABLE_BYTES_MAX, check32, state};
use crate::decode::Fields;
use crate::format::pcapng::block::{
    ENHANCED_PACKET, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, PADDING, SECTION_HEADER,
};
use crate::format::pcapng::reader::{Block, u32_at};

/// An index takes at most a hundredth of its file.
const SHARE: usize = 100;
/// Of that a segment's line in the table takes so much, its part of the header included.
const LINE_BYTES: usize = 56;

/// An index that is being made.
#[derive(Debug)]
pub struct Builder {
    file: File,
    index: Index,
    filters: Vec<u8>,
    keys: Keys,
    /// Link type and nanoseconds of a tick.
    interfaces: Vec<(u16, u64)>,
    /// The segment that is read.
    buffer: Vec<u8>,
    at: u64,
}

/// What has come of a step.
#[derive(Debug)]
pub enum Step {
    /// There are more segments.
    More,
    /// The index.
    Done(Index),
    /// The file is not one that can have an index, or has changed meanwhile.
    None,
    /// Something in it is not as lwnflog writes it.
    Damaged,
}

impl Builder {
    /// Begins the index of a finished file. `None` of one that is not in segments.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Option<Builder>> {
        const BEGINNING_BYTES: usize = 512;
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let (file_bytes, modified_ns) = state(&meta);
        let mut beginning = [0; BEGINNING_BYTES];
        let mut read = 0;
        if meta.is_file() {
            read = file.read_at(&mut beginning, 0)?;
        }
        let header = Block::read(&beginning[..read]).filter(|block| block.kind() == SECTION_HEADER);
        let segment = header.and_then(|header| header.segment_bytes());
        let Some((segment, segment_bytes)) =
            segment.and_then(|bytes| Some((bytes, u32::try_from(bytes).ok()?)))
        else {
            return Ok(None);
        };
        let segments = file_bytes.div_ceil(segment_bytes.into());
        if segments > (TABLE_BYTES_MAX / SEGMENT_BYTES) as u64 {
            return Ok(None); // nobody would believe it
        }
        Ok(Some(Builder {
            file,
            index: Index {
                file_bytes,
                modified_ns,
                segment_bytes,
                interfaces: Vec::new(),
                segments: Vec::new(),
                filters: Filters::Here(Vec::new()),
            },
            filters: Vec::new(),
            keys: Keys::default(),
            interfaces: Vec::new(),
            buffer: vec![0; segment],
            at: 0,
        }))
    }

    /// Looks through the next segment.
    ///
    /// # Errors
    /// What the system says, and a file that was cut meanwhile.
    pub fn step(&mut self) -> io::Result<Step> {
        let left = self.index.file_bytes - self.at;
        if left == 0 {
            let now = state(&self.file.metadata()?);
            if now != (self.index.file_bytes, self.index.modified_ns) {
                return Ok(Step::None);
            }
            let whole = Index {
                interfaces: std::mem::take(&mut self.index.interfaces),
                segments: std::mem::take(&mut self.index.segments),
                filters: Filters::Here(std::mem::take(&mut self.filters)),
                ..self.index
            };
            return Ok(Step::Done(whole));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let len = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.read_exact_at(&mut buffer[..len], self.at);
        let looked = read.map(|()| self.segment(&buffer[..len]));
        self.buffer = buffer;
        self.at += len as u64;
        Ok(match looked? {
            Some(()) => Step::More,
            None => Step::Damaged,
        })
    }

    /// `None` where something in it is not as lwnflog writes it.
    fn segment(&mut self, bytes: &[u8]) -> Option<()> {
        let mut segment = Segment {
            from_ns: u64::MAX,
            to_ns: 0,
            filter_at: self.filters.len() as u64,
            ..Segment::default()
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let block = Block::read(rest)?;
            let place = self.at + (bytes.len() - rest.len()) as u64;
            match block.kind() {
                SECTION_HEADER if place == 0 => {}
                INTERFACE_DESCRIPTION => {
                    let link = u32_at(block.bytes(), 8)? & 0xffff;
                    let tick_ns = 1000 / block.ticks_per_us()?;
                    self.interfaces.push((u16::try_from(link).ok()?, tick_ns));
                    self.index.interfaces.push(place);
                }
                ENHANCED_PACKET => self.packet(&block, &mut segment)?,
                PADDING | INTERFACE_STATISTICS => {}
                _ => return None,
            }
            rest = &rest[block.bytes().len()..];
        }
        let room = (bytes.len() / SHARE).saturating_sub(LINE_BYTES);
        (segment.hashes, segment.nets) = self.keys.put(room, &mut self.filters);
        let begin = usize::try_from(segment.filter_at).ok()?;
        let own = self.filters.get(begin..)?;
        segment.filter_bytes = u32::try_from(own.len()).ok()?;
        segment.filter_check = check32(own);
        self.index.segments.push(segment);
        Some(())
    }

    fn packet(&mut self, block: &Block<'_>, segment: &mut Segment) -> Option<()> {
        let (link, tick_ns) = *self.interfaces.get(block.interface()? as usize)?;
        let time_ns = block.stamp_ticks()?.checked_mul(tick_ns)?;
        segment.from_ns = segment.from_ns.min(time_ns);
        segment.to_ns = segment.to_ns.max(time_ns);
        segment.packets += 1;
        segment.lost = segment.lost.saturating_add(block.lost_before()?);
        self.keys.add(&Fields::of(link, block.data()?));
        Some(())
    }
}

//! Which parts of a file are read, for what is looked for: by its index, if there is one; all of it
//! otherwise. Only an index knows which times a segment holds: clocks are set back, and names and
//! times of files are what somebody has made them.

use std::collections::VecDeque;
use std::fs;
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::ReadError;
use super::filter::Filter;
use super::handle::Handle;
use super::packets::{Declared, Packets};
use super::places::Listed;
use super::span::Span;
use crate::index::{self, Index, Of, Segment};
use crate::ring::{Compression, ring_file};

/// What is looked for, and how.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// In this time.
    pub span: Span,
    /// Packets that it takes.
    pub filter: Filter,
    /// Without indexes: neither read nor made.
    pub no_index: bool,
}

/// How a file is read.
#[derive(Debug)]
pub(super) enum Plan {
    /// Not at all: it holds nothing of what is looked for.
    Not,
    /// From where it stands to its end, without a halt.
    Whole(Box<Packets>),
    /// These parts of it.
    Parts(Parts),
}

/// Parts of a file.
#[derive(Debug)]
pub(super) struct Parts {
    handle: Arc<Handle>,
    runs: VecDeque<Range<u64>>,
    declared: Arc<Declared>,
    /// Where segments border, and what says so: its index, or blocks that have to be looked at.
    segment_bytes: u64,
    by_index: bool,
}

impl Selection {
    /// How a file is read.
    pub(super) fn plan(&self, file: &Listed) -> Result<Plan, ReadError> {
        let Some(handle) = &file.handle else {
            return Ok(Plan::Whole(Box::new(Packets::open(&file.path)?)));
        };
        let live = file.name.as_ref().is_some_and(|name| name.live);
        if !self.no_index
            && !live
            && let Some(plan) = self.by_index(handle)
        {
            return Ok(plan);
        }
        let mut packets = Packets::of_handle(handle)?;
        let mut end = u64::MAX;
        if live {
            match packets.committed()? {
                Some(committed) => end = committed,
                None => packets.set_grows(),
            }
        }
        let segment = packets.segment_bytes().zip(packets.len());
        let Some((segment_bytes, _)) = segment.filter(|(segment, len)| len > segment) else {
            return Ok(Plan::Whole(Box::new(packets)));
        };
        packets.advance()?; // past the interfaces that the file begins with
        let Some(declared) = Declared::so_far(&packets) else {
            return Ok(Plan::Whole(Box::new(Packets::of_handle(handle)?)));
        };
        Ok(Plan::Parts(Parts {
            handle: Arc::clone(handle),
            runs: std::iter::once(0..end).collect(),
            declared: Arc::new(declared),
            segment_bytes,
            by_index: false,
        }))
    }

    fn by_index(&self, handle: &Arc<Handle>) -> Option<Plan> {
        let is_selective = self.filter.is_selective();
        let path = handle.path();
        let index = match index_of(handle, &(self.span.from_ns..=self.span.to_ns)) {
            Some(Of::Some(index)) => index,
            Some(Of::NoneOfIt) => return Some(Plan::Not),
            None if is_selective => build(handle)?,
            None => return None,
        };
        let may_hold =
            |segment: &Segment, keys: &index::Filter<'_>| self.filter.may_take_of(segment, keys);
        let may_hold = is_selective.then_some(&may_hold as _);
        let runs = index.runs(self.span.from_ns, self.span.to_ns, may_hold);
        if runs.is_empty() {
            return Some(Plan::Not);
        }
        if Compression::by_name(path).is_some() {
            return None;
        }
        Some(Plan::Parts(Parts {
            declared: Arc::new(Declared::at(handle, index.interfaces())?),
            handle: Arc::clone(handle),
            runs: runs.into(),
            segment_bytes: index.segment_bytes(),
            by_index: true,
        }))
    }
}

/// What the index of a file says of a time, where there is one that was made of it. Its size and its time of change
/// say so, and for all but what is of no such time what the file begins with: the section, the interfaces where they
/// should be, and packets of the times of its first segment and of its last. What a disk has changed in between is
/// not looked for.
pub(crate) fn index_of(handle: &Arc<Handle>, time: &RangeInclusive<u64>) -> Option<Of> {
    let path = handle.path();
    let said = Index::load_of(path, &handle.metadata().ok()?, time)?;
    match &said {
        Of::Some(index) if Compression::by_name(path).is_none() => {
            fits(index, handle)?.then_some(said)
        }
        _ => Some(said),
    }
}

fn fits(index: &Index, handle: &Arc<Handle>) -> Option<bool> {
    let segment_bytes = index.segment_bytes();
    if Packets::of_handle(handle).ok()?.segment_bytes() != Some(segment_bytes) {
        return Some(false);
    }
    let declared = Arc::new(Declared::at(handle, index.interfaces())?);
    let segments = index.segments();
    let has_packets = |segment: &Segment| segment.packets != 0;
    let looked_at = [
        segments.iter().position(has_packets),
        segments.iter().rposition(has_packets),
    ];
    for number in looked_at.into_iter().flatten() {
        let begin = number as u64 * segment_bytes;
        let run = begin..begin + segment_bytes;
        let declared = Arc::clone(&declared);
        let mut packets = Packets::open_parts(handle, VecDeque::from([run]), declared).ok()?;
        let segment = segments.get(number)?;
        packets.advance().ok()?;
        let time_ns = packets.time_ns()?;
        if !(segment.from_ns..=segment.to_ns).contains(&time_ns) {
            return Some(false);
        }
    }
    Some(true)
}

/// Makes the index of a ring's finished file, and leaves it there for the next who looks. Where it could
/// not be left, it is not made.
fn build(handle: &Handle) -> Option<Index> {
    let path = handle.path();
    let finished = ring_file(path).is_some_and(|name| !name.live);
    if !finished || Compression::by_name(path).is_some() {
        return None;
    }
    let now = fs::metadata(path).ok()?;
    if (now.dev(), now.ino()) != handle.identity() {
        return None;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).ok()?;
    let index = Index::build(path).ok()??;
    let _ = index.write(path);
    Some(index)
}

impl Parts {
    /// All of them, one behind the other.
    pub(super) fn open(self) -> Result<Packets, ReadError> {
        Packets::open_parts(&self.handle, self.runs, self.declared)
    }

    /// Parts of some megabytes each, for several threads. Where segments do not border as the file says,
    /// whoever reads the part before comes to know it.
    pub(super) fn split(self) -> Result<Vec<Parts>, ReadError> {
        /// A gap in a part costs less than a part.
        const PART_BYTES: u64 = 4 << 20;
        let step = PART_BYTES.next_multiple_of(self.segment_bytes);
        let mut borders = Packets::of_handle(&self.handle)?;
        let len = borders.len().unwrap_or(u64::MAX);
        let mut parts = Vec::new();
        let (mut runs, mut bytes) = (VecDeque::new(), 0);
        for mut run in self.runs {
            while run.end.min(len).saturating_sub(run.start) > step - bytes {
                let border = run.start + (step - bytes);
                if !self.by_index && borders.border(border)?.is_none() {
                    break;
                }
                runs.push_back(run.start..border);
                run.start = border;
                parts.push(std::mem::take(&mut runs));
                bytes = 0;
            }
            bytes += run.end.min(len).saturating_sub(run.start);
            runs.push_back(run);
            if bytes >= step {
                parts.push(std::mem::take(&mut runs));
                bytes = 0;
            }
        }
        parts.push(runs);
        let parts = parts.into_iter().filter(|runs| !runs.is_empty());
        let part = |runs| Parts {
            handle: Arc::clone(&self.handle),
            runs,
            declared: Arc::clone(&self.declared),
            segment_bytes: self.segment_bytes,
            by_index: self.by_index,
        };
        Ok(parts.map(part).collect())
    }
}

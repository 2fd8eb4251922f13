//! Which parts of a file are read, for what is looked for: by its index, if there is one; by time
//! alone otherwise.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ReadError;
use super::chain::{INVERSION_NS, Span};
use super::filter::Filter;
use super::packets::{Declared, Packets};
use crate::format::pcapng::block::PADDING;
use crate::index::{self, Index, Segment};
use crate::ring::{Compression, ring_file, wherever};

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
    /// It has gone.
    Gone,
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
    path: PathBuf,
    runs: VecDeque<Range<u64>>,
    declared: Arc<Declared>,
    /// Where segments border, and what says so: its index, or blocks that have to be looked at.
    segment_bytes: u64,
    by_index: bool,
}

impl Selection {
    /// How a file is read. A file of a ring may be gone by now, or compressed.
    pub(super) fn plan(&self, path: &Path) -> Result<Plan, ReadError> {
        let path = if path.exists() {
            path.to_owned()
        } else {
            wherever(path)
        };
        let live = ring_file(&path).is_some_and(|name| name.live);
        if !self.no_index
            && !live
            && let Some(plan) = self.by_index(&path)
        {
            return Ok(plan);
        }
        let mut packets = match Packets::open(&path) {
            Err(_) if !path.exists() && path.as_os_str() != "-" => return Ok(Plan::Gone),
            opened => opened?,
        };
        let segment = packets.segment_bytes()?.zip(packets.len());
        let Some((segment_bytes, len)) = segment.filter(|(segment, len)| len > segment) else {
            return Ok(Plan::Whole(Box::new(packets)));
        };
        packets.advance()?; // past the interfaces that the file begins with
        let declared = Arc::new(Declared::so_far(&packets));
        packets.knows(&declared);
        let run = self.by_time(&mut packets, segment_bytes, len, live)?;
        Ok(Plan::Parts(Parts {
            path,
            runs: VecDeque::from([run]),
            declared,
            segment_bytes,
            by_index: false,
        }))
    }

    fn by_index(&self, path: &Path) -> Option<Plan> {
        let is_selective = self.filter.is_selective();
        let index = match Index::load(path) {
            Some(index) => index,
            None if is_selective => build(path)?,
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
            declared: Arc::new(Declared::at(path, index.interfaces())?),
            path: path.to_owned(),
            runs: runs.into(),
            segment_bytes: index.segment_bytes(),
            by_index: true,
        }))
    }

    /// From the last segment that begins before the time up to the first that begins behind it; of a
    /// live file up to where it ends by then. All of it where segments do not border as they should.
    fn by_time(
        &self,
        packets: &mut Packets,
        segment_bytes: u64,
        len: u64,
        live: bool,
    ) -> Result<Range<u64>, ReadError> {
        let segments = len.div_ceil(segment_bytes);
        // The first segment of which `is` is true, or the number of them; `None` where none begins.
        let mut first = |is: &dyn Fn(Option<u64>) -> bool| -> Result<Option<u64>, ReadError> {
            let (mut low, mut high) = (0, segments);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                let Some(kind) = packets.border(middle * segment_bytes)? else {
                    return Ok(None);
                };
                // One that is not written yet begins with padding.
                let time = if kind != PADDING && packets.advance()? {
                    packets.time_ns()
                } else {
                    None
                };
                match is(time) {
                    true => high = middle,
                    false => low = middle,
                }
            }
            Ok(Some(high))
        };
        let mut run = 0..u64::MAX;
        if self.span.from_ns != 0 {
            let wanted = self.span.from_ns.saturating_sub(INVERSION_NS);
            let begin = first(&|time| time.is_none_or(|time| time >= wanted))?;
            run.start = begin.map_or(0, |begin| (begin - 1) * segment_bytes);
        }
        if self.span.to_ns != u64::MAX && !live {
            let beyond = self.span.to_ns.saturating_add(INVERSION_NS);
            let end = first(&|time| time.is_none_or(|time| time > beyond))?;
            run.end = end.map_or(u64::MAX, |end| end * segment_bytes);
        }
        Ok(run)
    }
}

/// Makes the index of a ring's finished file, and leaves it there for the next who looks. Where it could
/// not be left, it is not made.
fn build(path: &Path) -> Option<Index> {
    let finished = ring_file(path).is_some_and(|name| !name.live);
    if !finished || Compression::by_name(path).is_some() {
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
        Packets::open_parts(&self.path, self.runs, self.declared)
    }

    /// Parts of some megabytes each, for several threads.
    pub(super) fn split(self) -> Result<Vec<Parts>, ReadError> {
        /// A gap in a part costs less than a part.
        const PART_BYTES: u64 = 4 << 20;
        let step = PART_BYTES.next_multiple_of(self.segment_bytes);
        let mut borders = Packets::open(&self.path)?;
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
            path: self.path.clone(),
            runs,
            declared: Arc::clone(&self.declared),
            segment_bytes: self.segment_bytes,
            by_index: self.by_index,
        };
        Ok(parts.map(part).collect())
    }
}

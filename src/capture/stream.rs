//! A stream as a sink: records one behind the other, written by a thread of its own.
//!
//! ```text
//!   capturing thread ──full chunks──> writer ──write(2)──> a pipe, a file
//!                    <──empty ones────
//! ```
//!
//! While the reader sleeps the chunks fill; then packets count as dropped by the writer. The capture
//! never waits for it. Once it has gone, the capture ends, also if nothing arrives that could be written.

mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use super::Control;
use super::sink::{Progress, Sink, set_names};
use crate::format::{Context, Format, Frame, HEAD_BYTES, LinkType};
use crate::packet::{IpFamily, Packet};
use crate::ring::Figures;
use crate::source::{Item, Source, Walk, links};
use writer::{Chunk, Fate, Writer};

/// A batch of a thousand records fits one of the usual length; a longer record than all of it does
/// not exist.
const CHUNK_BYTES: usize = 512 << 10;
/// 32 MiB: what a reader that sleeps may be behind.
const CHUNKS: usize = 64;

/// Records packets in a stream.
pub struct StreamSink<F> {
    format: F,
    link: LinkType,
    snaplen: u32,
    family: IpFamily,
    /// What is being filled; `None` while all of them wait for the reader.
    chunk: Option<Chunk>,
    writer: Writer,
    /// So many were put into chunks.
    records: u64,
    figures: Figures,
    /// The figures are the last.
    has_ended: bool,
    failure: Option<io::Error>,
}

impl<F> fmt::Debug for StreamSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSink").finish_non_exhaustive()
    }
}

impl<F: Format> StreamSink<F> {
    /// Records frames of `link`, cut to `snaplen` bytes, of packets of `family`, in `stream`. Once nobody
    /// reads that, `control` stops the capture.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(
        format: F,
        link: LinkType,
        snaplen: u32,
        family: IpFamily,
        stream: File,
        control: Arc<Control>,
    ) -> io::Result<Self> {
        let mut writer = Writer::start(stream, CHUNKS, CHUNK_BYTES, control)?;
        Ok(StreamSink {
            format,
            link,
            snaplen,
            family,
            chunk: writer.empty(),
            writer,
            records: 0,
            figures: Figures::default(),
            has_ended: false,
            failure: None,
        })
    }

    /// Hands over what is filled.
    fn hand_over(&mut self) {
        let Some(chunk) = self.chunk.take_if(|chunk| !chunk.bytes.is_empty()) else {
            return;
        };
        self.writer.write(chunk);
        self.chunk = self.writer.empty();
    }

    /// Appends a whole block, if there is room.
    fn append(&mut self, block: &[u8]) -> bool {
        match self.room(block.len()) {
            Some(chunk) => {
                chunk.bytes.extend_from_slice(block);
                true
            }
            None => false,
        }
    }

    /// A chunk with room for so many bytes more.
    fn room(&mut self, bytes: usize) -> Option<&mut Chunk> {
        let fits = |chunk: &Chunk| chunk.bytes.len() + bytes <= CHUNK_BYTES;
        if !self.chunk.as_ref().is_some_and(fits) {
            self.hand_over();
            if self.chunk.is_none() {
                self.chunk = self.writer.empty();
            }
        }
        self.chunk.as_mut().filter(|chunk| fits(chunk))
    }

    fn record(&mut self, packet: &Packet<'_>, progress: &mut Progress) -> bool {
        let stamp_ticks = packet.stamp_ticks.map_or_else(
            || {
                progress.tally.unstamped += 1;
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                self.format.resolution().ticks(now.unwrap_or_default())
            },
            std::num::NonZeroU64::get,
        );
        // An interface is declared only where there is room for its block and the record.
        if self.room(CHUNK_BYTES / 4).is_none() {
            return false;
        }
        let known = self.format.interface(packet.ifindex());
        let interface = known.or_else(|| {
            let block = self.format.declare(packet);
            self.append(&block);
            self.format.interface(packet.ifindex())
        });
        let Some(interface) = interface else {
            return false;
        };
        let frame = Frame::new(packet, self.link, self.snaplen);
        let context = Context {
            stamp_ticks,
            lost_before: progress.lost_before,
            interface,
        };
        let len = self.format.record_bytes(packet, &frame, &context);
        if self.room(len).is_none() {
            return false;
        }
        let Some(Chunk { bytes, ends }) = &mut self.chunk else {
            return false;
        };
        let at = bytes.len();
        bytes.resize(at + len, 0);
        ends.push(at + len);
        let out = &mut bytes[at..];
        let head = self
            .format
            .encode(packet, &frame, &context, (&mut *out).into());
        if let Some(place) = out.get_mut(..HEAD_BYTES) {
            place.copy_from_slice(&head);
        }
        self.records += 1;
        true
    }

    fn take(&mut self, packet: &Packet<'_>, progress: &mut Progress, control: &Control) {
        progress.arrived(packet);
        if progress.was_paused && packet.payload.is_empty() {
            progress.tally.paused += 1;
        } else if !packet
            .ip_version()
            .is_some_and(|version| self.family.takes(version))
        {
            progress.tally.other_family += 1;
        } else if !control.allow_one() {
            progress.tally.beyond_count += 1;
        } else if self.record(packet, progress) {
            progress.tally.written += 1;
            progress.lost_before = 0;
        } else {
            progress.tally.writer += 1;
            progress.lost_before += 1;
        }
    }
}

impl<F: Format> Sink for StreamSink<F> {
    fn begin(&mut self) {
        self.figures.files_begun = 1;
        let mut beginning = Vec::new();
        self.format
            .begin(&mut |block| beginning.extend_from_slice(block));
        self.append(&beginning);
        self.hand_over();
    }

    fn take_batch<S: Source>(
        &mut self,
        source: &mut S,
        progress: &mut Progress,
        control: &Control,
    ) {
        let mut batch = source.batch();
        while let Some(item) = batch.next() {
            match item {
                Item::Packet(packet) => self.take(packet, progress, control),
                Item::Malformed(why) => progress.pass_over(why),
            }
        }
    }

    /// A reader that is behind gets whole chunks: what is there for him is in few of them, however small
    /// batches are.
    fn commit(&mut self) {
        if !self.writer.is_behind() {
            self.hand_over();
        }
    }

    fn idle(&mut self) {
        self.hand_over();
    }

    fn note_links(&mut self, changes: &[links::Change]) {
        set_names(&mut self.format, changes);
    }

    fn note(&mut self, text: &str) {
        self.format.note(text);
    }

    fn end(&mut self, lost: u64) {
        self.format.lose(lost);
        let mut ending = Vec::new();
        self.format
            .end(&mut |block| ending.extend_from_slice(block));
        self.hand_over();
        self.writer.write(Chunk {
            bytes: ending,
            ends: Vec::new(),
        });
        // Here it may wait: nothing comes any more.
        let Fate {
            records_taken,
            bytes_taken,
            error,
        } = self.writer.close();
        let lost = self.records - records_taken;
        self.figures.lost_records = lost;
        self.figures.bytes = bytes_taken;
        self.has_ended = true;
        // A reader that has what there was may go.
        let gone = |error: &io::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset};
            matches!(error.kind(), BrokenPipe | ConnectionReset)
        };
        let error = error.filter(|error| lost != 0 || !gone(error));
        self.failure = error.map(|error| {
            let what = match gone(&error) {
                true => "its reader has gone".to_owned(),
                false => error.to_string(),
            };
            let text = format!(
                "the stream: {what}: what it has not taken counts as dropped by the writer"
            );
            io::Error::new(error.kind(), text)
        });
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    fn figures(&self) -> Figures {
        if self.has_ended {
            return self.figures; // what the reader has not taken is lost
        }
        let (records, bytes) = self.writer.taken();
        Figures {
            bytes,
            unread_records: self.records - records,
            ..self.figures
        }
    }

    fn close(self) -> (Vec<PathBuf>, Figures) {
        (Vec::new(), self.figures)
    }
}

//! A stream as a sink: records one behind the other, written by a thread of its own.
//!
//! ```text
//!   capturing thread ──full buffers──> writer ──write(2)──> a pipe, a file
//!                    <──empty ones────
//! ```
//!
//! While the reader sleeps the buffers fill; then packets count as dropped by the writer. The capture
//! never waits for it. Once it has gone, the capture ends, also if nothing arrives that could be written.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Control;
use super::sink::{Progress, Sink, set_names};
use crate::format::{Context, Format, Frame, HEAD_BYTES, LinkType};
use crate::packet::{IpFamily, Packet};
use crate::ring::Figures;
use crate::source::{Item, Source, Walk, links};
use crate::sys::capabilities;

/// A batch of a thousand records fits one of the usual length; a longer record than all of it does
/// not exist.
const BUFFER_BYTES: usize = 512 << 10;
/// 32 MiB: what a reader that sleeps may be behind.
const BUFFERS: usize = 64;
/// How often it is looked whether the reader is there, while nothing is written.
const LOOK: Duration = Duration::from_secs(1);

/// Records packets in a stream.
pub struct StreamSink<F> {
    format: F,
    link: LinkType,
    snaplen: u32,
    family: IpFamily,
    /// What is being filled; `None` while all of them wait for the reader.
    buffer: Option<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    full: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
    figures: Figures,
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
        let (full, to_write) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
        let (written, empty) = mpsc::channel();
        for _ in 0..BUFFERS {
            let _ = written.send(Vec::with_capacity(BUFFER_BYTES));
        }
        let writer = thread::Builder::new()
            .name("stream".to_owned())
            .spawn(move || {
                let _ = capabilities::give_up();
                let next = |stream: &File| loop {
                    match to_write.recv_timeout(LOOK) {
                        Ok(buffer) => break Some(buffer),
                        Err(RecvTimeoutError::Timeout) if has_reader(stream) => {}
                        Err(RecvTimeoutError::Timeout) => {
                            control.stop();
                            break None;
                        }
                        Err(RecvTimeoutError::Disconnected) => break None,
                    }
                };
                while let Some(mut buffer) = next(&stream) {
                    if (&stream).write_all(&buffer).is_err() {
                        control.stop();
                        return;
                    }
                    buffer.clear();
                    let _ = written.send(buffer);
                }
            })?;
        Ok(StreamSink {
            format,
            link,
            snaplen,
            family,
            buffer: empty.try_recv().ok(),
            empty,
            full: Some(full),
            writer: Some(writer),
            figures: Figures::default(),
        })
    }

    /// Hands over what is filled.
    fn hand_over(&mut self) {
        let Some(buffer) = self.buffer.take_if(|buffer| !buffer.is_empty()) else {
            return;
        };
        // There is room for all buffers: this waits for nobody. A writer that has ended stops the capture.
        if let Some(full) = &self.full {
            let _ = full.try_send(buffer);
        }
        self.buffer = self.empty.try_recv().ok();
    }

    /// Appends a whole block, if there is room.
    fn append(&mut self, block: &[u8]) -> bool {
        match self.room(block.len()) {
            Some(buffer) => {
                buffer.extend_from_slice(block);
                self.figures.bytes += block.len() as u64;
                true
            }
            None => false,
        }
    }

    /// A buffer with room for so many bytes more.
    fn room(&mut self, bytes: usize) -> Option<&mut Vec<u8>> {
        let fits = |buffer: &Vec<u8>| buffer.len() + bytes <= BUFFER_BYTES;
        if !self.buffer.as_ref().is_some_and(fits) {
            self.hand_over();
            if self.buffer.is_none() {
                self.buffer = self.empty.try_recv().ok();
            }
        }
        self.buffer
            .as_mut()
            .filter(|buffer| buffer.len() + bytes <= BUFFER_BYTES)
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
        if self.room(BUFFER_BYTES / 4).is_none() {
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
        let Some(buffer) = &mut self.buffer else {
            return false;
        };
        let at = buffer.len();
        buffer.resize(at + len, 0);
        let out = &mut buffer[at..];
        let head = self
            .format
            .encode(packet, &frame, &context, (&mut *out).into());
        if let Some(place) = out.get_mut(..HEAD_BYTES) {
            place.copy_from_slice(&head);
        }
        self.figures.bytes += len as u64;
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

/// Whether somebody may still read this; of what is no pipe that is taken to be so.
fn has_reader(stream: &File) -> bool {
    let mut asked = [PollFd::new(stream, PollFlags::empty())];
    let told = poll(&mut asked, Some(&Timespec::default()));
    told.is_err() || !asked[0].revents().contains(PollFlags::ERR)
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

    fn commit(&mut self) {
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
        // Here it may wait: nothing comes any more.
        self.hand_over();
        if let Some(full) = self.full.take() {
            let _ = full.send(ending);
        }
    }

    fn figures(&self) -> Figures {
        self.figures
    }

    fn close(mut self) -> (Vec<PathBuf>, Figures) {
        self.full = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        (Vec::new(), self.figures)
    }
}

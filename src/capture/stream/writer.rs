//! The stream's own thread, which knows what of it the reader has taken.
//!
//! What is in a pipe, or a socket of this host, nobody has yet. Where the reader goes, or takes nothing more
//! when the capture ends, records that are still there count as lost: of a socket, those that may be.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::net::{SendFlags, send};
use rustix::pipe::{PIPE_BUF, fcntl_getpipe_size};

use crate::capture::Control;
use crate::sys::{capabilities, file};

/// How often it is looked whether the reader is there, while nothing is written.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether a reader that is behind has taken something.
const LOOK_BEHIND: Duration = Duration::from_millis(50);
/// At the end a reader that takes nothing for so long is given up, and any in so long.
const STILL_MAX: Duration = Duration::from_secs(3);
const END_MAX: Duration = Duration::from_secs(30);
/// Longer than the thread takes to notice that by itself.
const NOTICE: Duration = Duration::from_secs(1);

/// A record of the usual length at the least.
const RECORD_BYTES: usize = 64;

/// Bytes on their way, and where in them each record ends.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

impl Chunk {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[derive(Default)]
struct Shared {
    records_taken: AtomicU64,
    bytes_taken: AtomicU64,
    closing: AtomicBool,
}

/// The thread, from the capturing thread's side.
pub(super) struct Writer {
    full: Option<SyncSender<Chunk>>,
    empty: Receiver<Chunk>,
    /// Those that have come back.
    pool: Vec<Chunk>,
    chunks: usize,
    ended: Receiver<io::Result<()>>,
    shared: Arc<Shared>,
}

/// What has become of a stream.
pub(super) struct Fate {
    pub(super) records_taken: u64,
    pub(super) bytes_taken: u64,
    pub(super) error: Option<io::Error>,
}

impl Writer {
    /// A thread that writes to `stream`, with so many chunks of so many bytes to go round. Once it
    /// cannot go on, `control` has the capture end.
    pub(super) fn start(
        stream: File,
        chunks: usize,
        chunk_bytes: usize,
        control: Arc<Control>,
    ) -> io::Result<Writer> {
        // All of them, and the end.
        let (full, to_write) = mpsc::sync_channel(chunks + 1);
        let (written, empty) = mpsc::channel();
        for _ in 0..chunks {
            let _ = written.send(Chunk {
                bytes: Vec::with_capacity(chunk_bytes),
                // Grown in the first chunks where records are small.
                ends: Vec::with_capacity(chunk_bytes / RECORD_BYTES),
            });
        }
        let (to_closer, ended) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut work = Work {
            kind: Kind::of(&stream)?,
            stream,
            sent: 0,
            ends: VecDeque::new(),
            taken: 0,
            progress: Instant::now(),
            closing: None,
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name("stream".to_owned())
            .spawn(move || {
                let _ = capabilities::give_up();
                let done = work.run(&to_write, &written);
                work.note_taken();
                let failed = done.is_err();
                let _ = to_closer.send(done);
                if failed {
                    control.give_up();
                }
            })?;
        Ok(Writer {
            full: Some(full),
            empty,
            pool: Vec::with_capacity(chunks),
            chunks,
            ended,
            shared,
        })
    }

    /// An empty chunk, where there is one.
    pub(super) fn empty(&mut self) -> Option<Chunk> {
        self.pool.extend(self.empty.try_iter());
        self.pool.pop()
    }

    /// Whether half of the chunks wait for the reader.
    pub(super) fn is_behind(&mut self) -> bool {
        self.pool.extend(self.empty.try_iter());
        self.pool.len() < self.chunks / 2
    }

    /// Has a chunk written. There is room for all of them: this waits for nobody. What a writer that
    /// has ended gets is lost, and found to be so at the end.
    pub(super) fn write(&self, chunk: Chunk) {
        if let Some(full) = &self.full {
            let _ = full.try_send(chunk);
        }
    }

    /// Records and bytes that the reader has taken.
    pub(super) fn taken(&self) -> (u64, u64) {
        let Shared {
            records_taken,
            bytes_taken,
            ..
        } = &*self.shared;
        let records = records_taken.load(Ordering::Relaxed);
        (records, bytes_taken.load(Ordering::Relaxed))
    }

    /// Waits until the reader has taken all, or is given up.
    pub(super) fn close(&mut self) -> Fate {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.full.take());
        let taken = || self.shared.bytes_taken.load(Ordering::Relaxed);
        let (mut last, mut still) = (taken(), Instant::now());
        let done = loop {
            match self.ended.recv_timeout(LOOK_BEHIND) {
                Ok(done) => break done,
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(io::Error::other("the thread that writes it has panicked"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if std::mem::replace(&mut last, taken()) != last {
                still = Instant::now();
            }
            // Blocked where it cannot be told to stop: the end of the process ends it.
            if still.elapsed() > STILL_MAX + NOTICE {
                break Err(not_taken());
            }
        };
        Fate {
            records_taken: self.shared.records_taken.load(Ordering::Relaxed),
            bytes_taken: taken(),
            error: done.err(),
        }
    }
}

fn not_taken() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "its reader does not take what is there",
    )
}

/// What a stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
    /// A file, a device: what is written has arrived.
    Other,
}

impl Kind {
    fn of(stream: &File) -> io::Result<Kind> {
        let kind = stream.metadata()?.file_type();
        Ok(match (kind.is_fifo(), kind.is_socket()) {
            (true, _) => Kind::Pipe,
            (_, true) => Kind::Socket,
            _ => Kind::Other,
        })
    }
}

/// The thread's own things.
struct Work {
    stream: File,
    kind: Kind,
    /// Bytes written so far.
    sent: u64,
    /// Where records end that nobody has taken yet.
    ends: VecDeque<u64>,
    /// Bytes that the reader has.
    taken: u64,
    /// When it had more of them last.
    progress: Instant,
    /// Since when the capture has been at its end.
    closing: Option<Instant>,
    shared: Arc<Shared>,
}

impl Work {
    fn run(&mut self, to_write: &Receiver<Chunk>, written: &mpsc::Sender<Chunk>) -> io::Result<()> {
        loop {
            match to_write.recv_timeout(LOOK) {
                Ok(mut chunk) => {
                    let sent = self.sent;
                    let ends = chunk.ends.iter().map(|end| sent + *end as u64);
                    self.ends.extend(ends);
                    self.write(&chunk.bytes)?;
                    self.note_taken();
                    chunk.clear();
                    let _ = written.send(chunk);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.note_taken();
                    self.check_reader()?;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        while !self.ends.is_empty() {
            self.check_reader()?;
            self.wait()?;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?.min(bytes.len());
            let written = match self.kind {
                Kind::Socket => {
                    let now = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    send(&self.stream, &bytes[..room], now).map_err(io::Error::from)
                }
                _ => (&self.stream).write(&bytes[..room]),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody else has made a pipe so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.check_reader()?;
                    self.wait()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes can be written without waiting in the kernel, where nothing would be known of
    /// what the reader does; waits here until there are some. What is no pipe takes all.
    fn room(&mut self) -> io::Result<usize> {
        if self.kind != Kind::Pipe {
            return Ok(usize::MAX);
        }
        loop {
            if ioctl_fionread(&self.stream)? == 0 {
                return Ok(fcntl_getpipe_size(&self.stream)?.max(PIPE_BUF));
            }
            if self.events(LOOK_BEHIND).contains(PollFlags::OUT) {
                return Ok(PIPE_BUF); // a page at least is free
            }
            self.check_reader()?;
            self.patience()?;
        }
    }

    /// Rests a moment, where the reader is not to be given up.
    fn wait(&mut self) -> io::Result<()> {
        const REST: Duration = Duration::from_millis(5);
        self.patience()?;
        thread::sleep(REST);
        Ok(())
    }

    /// While the capture lasts, a reader may sleep.
    fn patience(&mut self) -> io::Result<()> {
        self.note_taken();
        if !self.shared.closing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let closing = *self.closing.get_or_insert_with(Instant::now);
        let still = self.progress.max(closing).elapsed();
        if !self.ends.is_empty() && (still > STILL_MAX || closing.elapsed() > END_MAX) {
            return Err(not_taken());
        }
        Ok(())
    }

    /// Looks what the reader has taken.
    fn note_taken(&mut self) {
        let waiting = match self.kind {
            Kind::Pipe => ioctl_fionread(&self.stream).unwrap_or(0),
            Kind::Socket => match file::unsent_bytes(&self.stream) {
                // Emptied because nobody reads it any more?
                Ok(waiting) if self.check_reader().is_ok() => waiting as u64,
                _ => return,
            },
            Kind::Other => 0,
        };
        let taken = self.sent.saturating_sub(waiting);
        if taken <= self.taken {
            return;
        }
        (self.taken, self.progress) = (taken, Instant::now());
        let records = self.ends.iter().take_while(|end| **end <= taken).count();
        self.ends.drain(..records);
        let shared = &self.shared;
        shared
            .records_taken
            .fetch_add(records as u64, Ordering::Relaxed);
        shared.bytes_taken.store(taken, Ordering::Relaxed);
    }

    fn check_reader(&self) -> io::Result<()> {
        let gone = match self.kind {
            Kind::Socket => PollFlags::ERR | PollFlags::HUP,
            _ => PollFlags::ERR,
        };
        match self.events(Duration::ZERO).intersects(gone) {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }

    /// What `poll` says; of what cannot be asked, that it can be written.
    fn events(&self, longest: Duration) -> PollFlags {
        let mut asked = [PollFd::new(&self.stream, PollFlags::OUT)];
        let longest = Timespec::try_from(longest).unwrap_or_default();
        match poll(&mut asked, Some(&longest)) {
            Ok(_) => asked[0].revents(),
            Err(rustix::io::Errno::INTR) => PollFlags::empty(),
            Err(_) => PollFlags::OUT,
        }
    }
}

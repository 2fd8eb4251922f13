//! Bytes of a file, a window at a time; compressed ones as they were.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::handle::Handle;
use super::lz4;
use crate::ring::Compression;

/// Read at a time.
const WINDOW_BYTES: usize = 256 << 10;
/// The same at first.
const FIRST_BYTES: usize = 4 << 10;
/// The longest that has to be there in one piece. A block that says that it is longer is damaged.
pub(super) const PIECE_BYTES_MAX: usize = 64 << 20;

enum From {
    /// And where in it the window ends.
    File(Arc<Handle>, u64),
    Stream(Box<dyn Read + Send>),
}

/// A file that is read from its start to its end.
pub struct Input {
    from: From,
    window: Vec<u8>,
    /// How long the window is to be.
    window_bytes: usize,
    at: usize,
    filled: usize,
    /// Where in the file the window begins, of what is not compressed.
    window_start: u64,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("at", &self.position())
            .finish_non_exhaustive()
    }
}

impl Input {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// What the system says; a way to compress that this program was built without.
    pub fn open(path: &Path) -> io::Result<Input> {
        if path.as_os_str() == "-" {
            return Ok(Input::of(From::Stream(Box::new(io::stdin()))));
        }
        Input::of_handle(Arc::new(Handle::open(path)?))
    }

    /// Reads what was opened, from its start on.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub fn of_handle(handle: Arc<Handle>) -> io::Result<Input> {
        let form = Compression::by_name(handle.path());
        if form.is_none() && handle.is_plain() {
            return Ok(Input::of(From::File(handle, 0)));
        }
        let file = io::BufReader::with_capacity(64 << 10, FromStart { handle, at: 0 });
        Ok(Input::of(From::Stream(match form {
            None => Box::new(file),
            Some(Compression::Lz4) => Box::new(Frames::of(file)),
            Some(Compression::Zstd) => zstd(file)?,
        })))
    }

    /// What stands in memory, as if it came by a pipe.
    pub fn of_bytes(bytes: Vec<u8>) -> Input {
        Input::of(From::Stream(Box::new(io::Cursor::new(bytes))))
    }

    fn of(from: From) -> Input {
        Input {
            from,
            window: Vec::new(),
            window_bytes: WINDOW_BYTES,
            at: 0,
            filled: 0,
            window_start: 0,
        }
    }

    /// Has smaller windows, for who reads many files at once.
    pub fn set_window(&mut self, bytes: usize) {
        self.window_bytes = bytes.min(WINDOW_BYTES);
    }

    /// Where the next byte stands in the file.
    pub fn position(&self) -> u64 {
        self.window_start + self.at as u64
    }

    /// What has been read and not passed.
    #[inline]
    pub fn rest(&self) -> &[u8] {
        self.window.get(self.at..self.filled).unwrap_or(&[])
    }

    /// Has so many bytes there. False where the file ends before.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn need(&mut self, bytes: usize) -> io::Result<bool> {
        if self.filled - self.at >= bytes {
            return Ok(true);
        }
        self.fill(bytes)
    }

    #[cold]
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        if bytes > PIECE_BYTES_MAX {
            return Ok(false);
        }
        self.window.copy_within(self.at..self.filled, 0);
        self.window_start += self.at as u64;
        self.filled -= self.at;
        self.at = 0;
        // A file is begun with little: many are opened at once, and may be small.
        let room = match self.window.len() {
            0 => self.window_bytes.min(FIRST_BYTES),
            _ => self.window_bytes,
        };
        let room = bytes.next_power_of_two().max(room);
        if self.window.len() < room {
            self.window.resize(room, 0);
        }
        while self.filled < bytes {
            let space = &mut self.window[self.filled..];
            let read = match &mut self.from {
                From::File(handle, at) => handle.file()?.read_at(space, *at),
                From::Stream(stream) => stream.read(space),
            };
            match read {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.filled += read;
                    if let From::File(_, at) = &mut self.from {
                        *at += read as u64;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Goes on behind so many bytes, which need not have been read. False where the file ends before.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn pass(&mut self, bytes: usize) -> io::Result<bool> {
        if bytes <= self.filled - self.at {
            self.at += bytes;
            return Ok(true);
        }
        self.skip(bytes)
    }

    #[cold]
    fn skip(&mut self, bytes: usize) -> io::Result<bool> {
        let beyond = (bytes - (self.filled - self.at)) as u64;
        self.window_start += self.filled as u64;
        (self.at, self.filled) = (0, 0);
        let passed = match &mut self.from {
            From::File(handle, at) => {
                let left = handle.metadata()?.len().saturating_sub(*at);
                *at += beyond.min(left);
                beyond.min(left)
            }
            From::Stream(stream) => io::copy(&mut stream.take(beyond), &mut io::sink())?,
        };
        self.window_start += passed;
        Ok(passed == beyond)
    }

    /// Goes to a place in the file, and forgets what was read. False where that cannot be.
    ///
    /// # Errors
    /// What the system says.
    pub fn seek(&mut self, position: u64) -> io::Result<bool> {
        let From::File(_, at) = &mut self.from else {
            return Ok(false);
        };
        *at = position;
        self.window_start = position;
        (self.at, self.filled) = (0, 0);
        Ok(true)
    }

    /// What stands at a place of the file now, whatever was read before. `None` of a stream, and where
    /// the file ends before.
    ///
    /// # Errors
    /// What the system says.
    pub fn now_at<const N: usize>(&self, position: u64) -> io::Result<Option<[u8; N]>> {
        let From::File(handle, _) = &self.from else {
            return Ok(None);
        };
        let mut bytes = [0; N];
        match handle.file()?.read_exact_at(&mut bytes, position) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes of the file; `None` of a stream.
    pub fn len(&self) -> Option<u64> {
        match &self.from {
            From::File(handle, _) => Some(handle.metadata().ok()?.len()),
            From::Stream(_) => None,
        }
    }

    /// Whether the file holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// A file from its start on, whoever else reads it: by place, where it has places. It is opened for each read
/// where its handle is not held: more may be read at once than there are descriptors.
struct FromStart {
    handle: Arc<Handle>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let file = self.handle.file()?;
        if !self.handle.is_plain() {
            return (&*file).read(to);
        }
        let read = file.read_at(to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// LZ4 frames one behind the other: the decoder says that there is no more at the end of each, and where a
/// frame is cut between two blocks, and knows none that are to be skipped.
struct Frames<R: Read>(lz4_flex::frame::FrameDecoder<lz4::Watched<R>>);

impl<R: io::BufRead> Frames<R> {
    fn of(from: R) -> Frames<R> {
        Frames(lz4_flex::frame::FrameDecoder::new(lz4::Watched::of(from)))
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        let from = self.0.get_mut();
        if !from.is_at_end()? {
            return Ok(false);
        }
        match from.is_between_frames() {
            true => Ok(true),
            false => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "its last LZ4 frame is cut",
            )),
        }
    }
}

impl<R: io::BufRead> Read for Frames<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(to) {
                Ok(read) if read != 0 || to.is_empty() || self.is_at_end()? => return Ok(read),
                Ok(_) => {}
                Err(error) => {
                    let skipped = skipped_frame(&error).ok_or(error)?;
                    let mut frame = self.0.get_mut().take(skipped.into());
                    io::copy(&mut frame, &mut io::sink())?;
                }
            }
        }
    }
}

/// Bytes of a frame that is to be skipped, behind its head.
fn skipped_frame(error: &io::Error) -> Option<u32> {
    match error.get_ref()?.downcast_ref()? {
        lz4_flex::frame::Error::SkippableFrame(bytes) => Some(*bytes),
        _ => None,
    }
}

#[cfg(feature = "zstd")]
fn zstd(file: impl io::BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(zstd::Decoder::with_buffer(file)?))
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: impl io::BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Err(io::Error::other("this lwnflog was built without zstd"))
}

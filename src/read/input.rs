//! Bytes of a file, a window at a time; compressed ones as they were.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::ring::Compression;

/// Read at a time.
const WINDOW_BYTES: usize = 256 << 10;
/// The longest that has to be there in one piece. A block that says that it is longer is damaged.
const PIECE_BYTES_MAX: usize = 64 << 20;

enum From {
    File(File),
    Stream(Box<dyn Read + Send>),
}

/// A file that is read from its start to its end.
pub struct Input {
    from: From,
    window: Vec<u8>,
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
        let file = File::open(path)?;
        Ok(Input::of(match Compression::by_name(path) {
            None if file.metadata()?.is_file() => From::File(file),
            None => From::Stream(Box::new(file)),
            Some(Compression::Lz4) => {
                From::Stream(Box::new(lz4_flex::frame::FrameDecoder::new(file)))
            }
            Some(Compression::Zstd) => From::Stream(zstd(file)?),
        }))
    }

    /// What stands in memory, as if it came by a pipe.
    pub fn of_bytes(bytes: Vec<u8>) -> Input {
        Input::of(From::Stream(Box::new(io::Cursor::new(bytes))))
    }

    fn of(from: From) -> Input {
        Input {
            from,
            window: vec![0; WINDOW_BYTES],
            at: 0,
            filled: 0,
            window_start: 0,
        }
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
        if self.window.len() < bytes {
            self.window.resize(bytes.next_power_of_two(), 0);
        }
        while self.filled < bytes {
            let space = &mut self.window[self.filled..];
            let read = match &mut self.from {
                From::File(file) => file.read(space),
                From::Stream(stream) => stream.read(space),
            };
            match read {
                Ok(0) => return Ok(false),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Goes on behind so many bytes, which need not have been read.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn pass(&mut self, bytes: usize) -> io::Result<()> {
        if bytes <= self.filled - self.at {
            self.at += bytes;
            return Ok(());
        }
        self.skip(bytes)
    }

    #[cold]
    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        let beyond = (bytes - (self.filled - self.at)) as u64;
        self.window_start += self.filled as u64 + beyond;
        (self.at, self.filled) = (0, 0);
        match &mut self.from {
            From::File(file) => {
                file.seek(SeekFrom::Current(i64::try_from(beyond).unwrap_or(i64::MAX)))?;
            }
            From::Stream(stream) => {
                io::copy(&mut stream.take(beyond), &mut io::sink())?;
            }
        }
        Ok(())
    }

    /// Goes to a place in the file. False where that cannot be.
    ///
    /// # Errors
    /// What the system says.
    pub fn seek(&mut self, position: u64) -> io::Result<bool> {
        let From::File(file) = &mut self.from else {
            return Ok(false);
        };
        file.seek(SeekFrom::Start(position))?;
        self.window_start = position;
        (self.at, self.filled) = (0, 0);
        Ok(true)
    }

    /// Bytes of the file; `None` of a stream.
    pub fn len(&self) -> Option<u64> {
        match &self.from {
            From::File(file) => Some(file.metadata().ok()?.len()),
            From::Stream(_) => None,
        }
    }

    /// Whether the file holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

#[cfg(feature = "zstd")]
fn zstd(file: File) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(zstd::Decoder::new(file)?))
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: File) -> io::Result<Box<dyn Read + Send>> {
    Err(io::Error::other("this lwnflog was built without zstd"))
}

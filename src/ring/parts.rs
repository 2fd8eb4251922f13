//! A file's bytes, a part at a time: repair walks files that are larger than the memory it should
//! take.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes of which a part is read, changed, and kept.
pub(super) trait Parts {
    /// All of them.
    fn len(&self) -> usize;

    /// A part of them, to be changed; what is changed is gone with the next part unless it is kept.
    ///
    /// # Errors
    /// What reading answers; `UnexpectedEof` for what is not there.
    fn part(&mut self, range: Range<usize>) -> io::Result<&mut [u8]>;

    /// Keeps what was changed of the last part.
    ///
    /// # Errors
    /// What writing answers.
    fn keep(&mut self, range: Range<usize>) -> io::Result<()>;
}

impl Parts for &mut [u8] {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn part(&mut self, range: Range<usize>) -> io::Result<&mut [u8]> {
        self.get_mut(range)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn keep(&mut self, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }
}

/// The parts of a file. They are read and not mapped: what another process writes to a mapped file
/// would change under the walk's feet.
#[derive(Debug)]
pub(super) struct FileParts<'a> {
    file: &'a File,
    len: usize,
    /// What is kept of parts behind this place is not written.
    written_to: usize,
    /// Where `window` begins.
    start: usize,
    window: Vec<u8>,
}

/// What is read at one time at the least.
const WINDOW_BYTES: usize = 1 << 20;

impl<'a> FileParts<'a> {
    /// The first `len` bytes of a file that is open for reading and writing.
    pub(super) fn new(file: &'a File, len: usize) -> FileParts<'a> {
        FileParts {
            file,
            len,
            written_to: len,
            start: 0,
            window: Vec::new(),
        }
    }

    /// The same, of which nothing behind `end` is written: what was kept there is lost.
    pub(super) fn written_to(self, end: usize) -> FileParts<'a> {
        FileParts {
            written_to: end,
            ..self
        }
    }

    /// Where a range is in the window.
    fn inside(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let from = range.start.checked_sub(self.start)?;
        let to = range.end.checked_sub(self.start)?;
        (from <= to && to <= self.window.len()).then_some(from..to)
    }
}

impl Parts for FileParts<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn part(&mut self, range: Range<usize>) -> io::Result<&mut [u8]> {
        if range.start > range.end || range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.inside(&range).is_none() {
            let least = range.end - range.start;
            let bytes = least.max(WINDOW_BYTES).min(self.len - range.start);
            self.window.clear(); // should reading fail, there is no window
            self.start = range.start;
            let mut window = vec![0; bytes];
            self.file.read_exact_at(&mut window, range.start as u64)?;
            self.window = window;
        }
        match self.inside(&range) {
            Some(place) => Ok(&mut self.window[place]),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn keep(&mut self, range: Range<usize>) -> io::Result<()> {
        let Some(place) = self.inside(&range) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let bytes = range.end.min(self.written_to).saturating_sub(range.start);
        let bytes = &self.window[place][..bytes];
        self.file.write_all_at(bytes, range.start as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no positional reads and writes of files")]
    fn what_is_kept_is_in_the_file_and_nothing_else() {
        let mut file = tempfile::tempfile().unwrap();
        let len = 2 * WINDOW_BYTES + 100;
        file.write_all(&vec![1; len]).unwrap();
        let mut parts = FileParts::new(&file, len);
        parts.part(0..10).unwrap()[9] = 2;
        parts.keep(9..10).unwrap();
        parts.part(5..20).unwrap()[14] = 3; // not kept
        assert_eq!(parts.part(0..20).unwrap()[9], 2);
        let across = WINDOW_BYTES - 2..WINDOW_BYTES + 2;
        parts.part(across.clone()).unwrap().fill(4);
        parts.keep(across.clone()).unwrap();
        assert_eq!(parts.part(19..20).unwrap(), [1]);
        assert!(parts.keep(len - 1..len).is_err(), "not of this part");
        assert_eq!(parts.part(len - 1..len).unwrap(), [1]);
        assert!(parts.part(len..len + 1).is_err());
        let mut expected = vec![1; len];
        expected[9] = 2;
        expected[across].fill(4);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == expected);
        let mut parts = FileParts::new(&file, len).written_to(50);
        parts.part(40..60).unwrap().fill(5);
        parts.keep(40..60).unwrap();
        parts.keep(55..60).unwrap();
        expected[40..50].fill(5);
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == expected);
    }
}

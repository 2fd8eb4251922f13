//! Where a data set is: in a directory, or in a bucket of an S3-compatible store.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

#[cfg(feature = "s3")]
use super::bucket::Bucket;

/// What the name of a bucket begins with.
const S3: &str = "s3://";

/// A place for parts, which are there as a whole or not at all.
#[derive(Debug)]
pub enum Out {
    /// A directory.
    Directory(PathBuf),
    /// A bucket, or what begins with a prefix there.
    #[cfg(feature = "s3")]
    Bucket(Bucket),
}

/// A part that is being written.
pub(super) struct Begun {
    pub(super) file: File,
    /// In a directory.
    name: Option<Unfinished>,
}

/// A file that goes away unless it gets its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Out {
    /// `DIR` or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// A store that cannot be used as the environment says, or that this program was built without.
    pub fn of(name: &Path) -> io::Result<Out> {
        match name.to_str().filter(|name| name.starts_with(S3)) {
            None => Ok(Out::Directory(name.to_owned())),
            #[cfg(feature = "s3")]
            Some(url) => Bucket::of(url).map(Out::Bucket),
            #[cfg(not(feature = "s3"))]
            Some(_) => Err(io::Error::other(
                "this program was built without stores: `cargo install --features s3`",
            )),
        }
    }

    /// How a part is called in messages.
    pub(super) fn name(&self, part: &str) -> PathBuf {
        match self {
            Out::Directory(dir) => dir.join(part),
            #[cfg(feature = "s3")]
            Out::Bucket(bucket) => bucket.name(part),
        }
    }

    /// Begins a part. What is interrupted leaves nothing that an engine would read.
    pub(super) fn begin(&self, part: &str) -> io::Result<Begun> {
        match self {
            Out::Directory(_) => {
                let part = hidden(&self.name(part));
                if let Some(dir) = part.parent() {
                    fs::create_dir_all(dir)?;
                }
                Ok(Begun {
                    file: File::create(&part)?,
                    name: Some(Unfinished(part)),
                })
            }
            #[cfg(feature = "s3")]
            Out::Bucket(_) => Ok(Begun {
                file: tempfile::tempfile()?,
                name: None,
            }),
        }
    }

    /// Ends a part: it is stored, and has its name. Returns its bytes.
    pub(super) fn end(&self, part: &str, mut begun: Begun) -> io::Result<u64> {
        begun.file.flush()?;
        let bytes = begun.file.metadata()?.len();
        match self {
            Out::Directory(_) => {
                begun.file.sync_all()?;
                let path = self.name(part);
                if let Some(unfinished) = begun.name {
                    fs::rename(&unfinished.0, &path)?;
                }
                if let Some(dir) = path.parent() {
                    File::open(dir)?.sync_all()?;
                }
            }
            #[cfg(feature = "s3")]
            Out::Bucket(bucket) => bucket.put_file(part, begun.file)?,
        }
        Ok(bytes)
    }

    /// A text that was stored.
    pub(super) fn text(&self, name: &str) -> io::Result<Option<String>> {
        match self {
            Out::Directory(dir) => match fs::read_to_string(dir.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some),
            },
            #[cfg(feature = "s3")]
            Out::Bucket(bucket) => bucket.text(name),
        }
    }

    /// Stores a text.
    pub(super) fn put_text(&self, name: &str, text: &str) -> io::Result<()> {
        let mut begun = self.begin(name)?;
        begun.file.write_all(text.as_bytes())?;
        self.end(name, begun).map(drop)
    }
}

/// Engines pass over files whose names begin with a dot.
fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

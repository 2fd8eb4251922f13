//! Packets of captures as rows of a table, for programs that ask such questions: as text, or as a data set
//! in Parquet, with the losses in a table beside.
//!
//! ```text
//!   record ──> headers ──┬── lines: one stream, made by several threads
//!                        └── rows ──> data set: parts by day, hour and host; each file of a capture once
//! ```

#[cfg(feature = "parquet")]
#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "parquet")]
pub mod dataset;
mod digits;
mod headers;
#[cfg(feature = "parquet")]
mod hours;
pub mod lines;
#[cfg(feature = "parquet")]
pub mod loss;
#[cfg(feature = "parquet")]
mod mark;
#[cfg(feature = "parquet")]
pub mod out;
#[cfg(feature = "parquet")]
mod parquet;
pub mod row;

use std::path::Path;

/// The scheme of stores that parts are put to.
pub const S3: &str = "s3";

/// What a URL begins with, in small letters: `gs` of `GS://bucket`. `None` of what is none, a path.
pub fn scheme(name: &Path) -> Option<String> {
    let (scheme, _) = name.to_str()?.split_once("://")?;
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    let fits = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    (fits && scheme.chars().all(letter)).then(|| scheme.to_ascii_lowercase())
}

//! Packets of captures as rows of a table, for programs that ask such questions: as text, or as a data set
//! in Parquet, with the losses in a table beside.
//!
//! ```text
//!   record ──> headers ──┬── lines: one stream, made by several threads
//!                        └── rows ──> data set: parts by day, hour and host; each file of a capture once
//! ```

#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "parquet")]
pub mod dataset;
mod digits;
mod headers;
pub mod lines;
pub mod loss;
#[cfg(feature = "parquet")]
pub mod out;
#[cfg(feature = "parquet")]
mod parquet;
pub mod row;

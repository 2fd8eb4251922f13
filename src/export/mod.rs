//! Packets of captures as rows of a table, for programs that ask such questions: as text, or as a data set
//! in Parquet, with the losses in a table beside.
//!
//! ```text
//!   record ──> row ──┬── text: one stream
//!                    └── data set: parts by day, hour and host; each file of a capture once
//! ```

#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "parquet")]
pub mod dataset;
pub mod loss;
#[cfg(feature = "parquet")]
pub mod out;
#[cfg(feature = "parquet")]
mod parquet;
pub mod row;
pub mod text;

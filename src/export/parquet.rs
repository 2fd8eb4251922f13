//! Files in Apache Parquet, by the crate of the Apache Arrow project.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::hours::GROUP_ROWS;
use super::loss::{Gap, Source};
use super::out::Begun;
use super::row::{COLUMNS, Get, Row, Table};

/// Values of a column that are there; of each row whether one is.
struct Column {
    values: Values,
    there: Vec<i16>,
}

enum Values {
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Texts(Vec<ByteArray>),
}

/// A file that has its name when it is whole.
pub(super) struct Parts {
    begun: Begun,
    writer: SerializedFileWriter<File>,
}

impl Parts {
    /// A file of packets, sorted by time within each group of rows.
    pub(super) fn packets(begun: Begun) -> Result<Parts> {
        let columns = COLUMNS.iter().map(|(name, get)| {
            let kind = match get {
                Get::Int(_) => "INT32",
                Get::Long(_) => "INT64",
                Get::Text(_) => "BYTE_ARRAY",
                Get::Bytes(_) => return format!("OPTIONAL BYTE_ARRAY {name};"),
            };
            let utf8 = if kind == "BYTE_ARRAY" { " (UTF8)" } else { "" };
            format!("OPTIONAL {kind} {name}{utf8};")
        });
        let mut properties = properties().set_sorting_columns(Some(vec![SortingColumn {
            column_idx: 0,
            descending: false,
            nulls_first: false,
        }]));
        // The least and the greatest of texts tell little: filters tell whether an address is there.
        for (name, _) in COLUMNS
            .iter()
            .filter(|(_, get)| !matches!(get, Get::Int(_) | Get::Long(_)))
        {
            let path = ColumnPath::from(*name);
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
        for name in ["src", "dst"] {
            properties = properties
                .set_column_bloom_filter_enabled(ColumnPath::from(name), true)
                .set_column_bloom_filter_fpp(ColumnPath::from(name), 0.01)
                .set_column_bloom_filter_max_ndv(ColumnPath::from(name), GROUP_ROWS as u64);
        }
        // Where hardly two are alike a dictionary is of no use.
        for name in [
            "time_ns", "src_port", "tcp_seq", "tcp_ack", "ip_id", "payload",
        ] {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
        }
        properties = properties
            .set_column_encoding(ColumnPath::from("time_ns"), Encoding::DELTA_BINARY_PACKED);
        Parts::create(
            begun,
            "packets",
            &columns.collect::<String>(),
            properties.build(),
        )
    }

    /// A file of losses.
    pub(super) fn losses(begun: Begun) -> Result<Parts> {
        let columns = "REQUIRED BYTE_ARRAY kind (UTF8); REQUIRED BYTE_ARRAY file (UTF8);
            OPTIONAL BYTE_ARRAY source (UTF8); OPTIONAL BYTE_ARRAY interface (UTF8);
            OPTIONAL INT64 from_ns; REQUIRED INT64 to_ns; REQUIRED INT64 packets; REQUIRED INT64 lost;";
        Parts::create(begun, "loss", columns, properties().build())
    }

    fn create(
        begun: Begun,
        name: &str,
        columns: &str,
        properties: WriterProperties,
    ) -> Result<Parts> {
        let schema = parse_message_type(&format!("message {name} {{ {columns} }}"))?;
        let file = begun.file.try_clone()?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
        Ok(Parts { begun, writer })
    }

    /// Appends a group of rows.
    pub(super) fn write(&mut self, table: &Table) -> Result<()> {
        let texts: Vec<ByteArray> = table
            .texts()
            .iter()
            .map(|text| ByteArray::from(text.clone()))
            .collect();
        let rows = table.rows.len();
        let mut columns = COLUMNS.map(|(_, get)| Column {
            values: match get {
                Get::Int(_) => Values::Ints(Vec::with_capacity(rows)),
                Get::Long(_) => Values::Longs(Vec::with_capacity(rows)),
                Get::Text(_) | Get::Bytes(_) => Values::Texts(Vec::with_capacity(rows)),
            },
            there: Vec::with_capacity(rows),
        });
        // So few rows at a time stay in the processor's cache for all columns.
        for rows in table.rows.chunks(256) {
            for (column, (_, get)) in columns.iter_mut().zip(&COLUMNS) {
                column.extend(rows, *get, &texts);
            }
        }
        let columns = columns.into_iter();
        self.group(columns)
    }

    /// Appends gaps, or what is known of each source, where there are none.
    pub(super) fn write_losses(
        &mut self,
        sources: &[Source],
        gaps: Option<&[Gap]>,
        file: &str,
    ) -> Result<()> {
        let rows: Vec<_> = match gaps {
            Some(gaps) => {
                let row = |gap: &Gap| {
                    let source = sources.get(gap.source)?;
                    Some((source, gap.from_ns, gap.to_ns, 0, gap.lost))
                };
                gaps.iter().filter_map(row).collect()
            }
            None => sources
                .iter()
                .map(|source| {
                    let Source {
                        from_ns,
                        to_ns,
                        packets,
                        lost,
                        ..
                    } = source;
                    (source, *from_ns, *to_ns, *packets, *lost)
                })
                .collect(),
        };
        if rows.is_empty() {
            return Ok(());
        }
        let long = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let shared = |text: &str| Values::Texts(vec![ByteArray::from(text); rows.len()]);
        let texts = |of: fn(&Source) -> &str| {
            let texts = rows.iter().map(|(source, ..)| ByteArray::from(of(source)));
            Values::Texts(texts.collect())
        };
        let kind = if gaps.is_some() { "gap" } else { "file" };
        let begins = rows.iter().filter_map(|row| row.1).map(long);
        let all = || vec![1; rows.len()];
        let columns = [
            (shared(kind), all()),
            (shared(file), all()),
            (texts(|source| &source.source), all()),
            (texts(|source| &source.interface), all()),
            (
                Values::Longs(begins.collect()),
                rows.iter().map(|row| i16::from(row.1.is_some())).collect(),
            ),
            (
                Values::Longs(rows.iter().map(|row| long(row.2)).collect()),
                all(),
            ),
            (
                Values::Longs(rows.iter().map(|row| long(row.3)).collect()),
                all(),
            ),
            (
                Values::Longs(rows.iter().map(|row| long(row.4)).collect()),
                all(),
            ),
        ];
        let columns = columns.map(|(values, there)| Column { values, there });
        self.group(columns.into_iter())
    }

    fn group(&mut self, columns: impl Iterator<Item = Column>) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for Column { values, there } in columns {
            let mut column = group.next_column()?.ok_or_else(|| {
                ParquetError::General("more columns than the schema has".to_owned())
            })?;
            // The levels of a column that must be there are not asked for.
            match values {
                Values::Ints(values) => {
                    column
                        .typed::<Int32Type>()
                        .write_batch(&values, Some(&there), None)?
                }
                Values::Longs(values) => {
                    column
                        .typed::<Int64Type>()
                        .write_batch(&values, Some(&there), None)?
                }
                Values::Texts(values) => {
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&values, Some(&there), None)?
                }
            };
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Ends it: all of it is in its file.
    pub(super) fn finish(self) -> Result<Begun> {
        self.writer.into_inner()?.flush()?;
        Ok(self.begun)
    }
}

fn properties() -> parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_created_by(concat!("lwnflog ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(None)
}

impl Column {
    fn extend(&mut self, rows: &[Row], get: Get, texts: &[ByteArray]) {
        let there = &mut self.there;
        match (&mut self.values, get) {
            (Values::Ints(values), Get::Int(get)) => extend(values, there, rows.iter().map(get)),
            (Values::Longs(values), Get::Long(get)) => extend(values, there, rows.iter().map(get)),
            (Values::Texts(values), Get::Text(get) | Get::Bytes(get)) => {
                let text = |row: &Row| get(row).map(|text| texts[text.place()].clone());
                extend(values, there, rows.iter().map(text));
            }
            _ => unreachable!("values are made for what is read"),
        }
    }
}

fn extend<T>(values: &mut Vec<T>, there: &mut Vec<i16>, of: impl Iterator<Item = Option<T>>) {
    for value in of {
        there.push(i16::from(value.is_some()));
        values.extend(value);
    }
}

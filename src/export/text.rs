//! Rows as lines: CSV (RFC 4180) or JSON.

use std::io::{self, Write};

use super::row::{COLUMNS, Get, Row, Table};

/// Rows are written when there are so many.
const ROWS: usize = 4096;

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line of names, then a line a packet; what is not known is empty.
    Csv,
    /// An object a line and packet; what is not known is not there.
    Json,
}

/// Writes rows to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    format: Format,
    /// What is written next; [`Writer::add`] fills it.
    table: Table,
    host: String,
    line: String,
}

impl<W: Write> Writer<W> {
    /// Begins. Of what is behind the headers so many bytes are written, in hexadecimal digits.
    ///
    /// # Errors
    /// What the stream says.
    pub fn begin(
        mut to: W,
        format: Format,
        host: &str,
        payload_bytes: usize,
    ) -> io::Result<Writer<W>> {
        if format == Format::Csv {
            let names = COLUMNS.iter().map(|(name, _)| *name);
            let names: Vec<_> = std::iter::once("host").chain(names).collect();
            writeln!(to, "{}", names.join(","))?;
        }
        Ok(Writer {
            to,
            format,
            table: Table::new(payload_bytes),
            host: host.to_owned(),
            line: String::new(),
        })
    }

    /// Appends a packet.
    ///
    /// # Errors
    /// What the stream says.
    pub fn add(&mut self, record: &crate::read::Record<'_>) -> io::Result<()> {
        self.table.add(record);
        if self.table.rows.len() < ROWS {
            return Ok(());
        }
        self.write()
    }

    /// Has all of it written.
    ///
    /// # Errors
    /// What the stream says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        self.to.flush()
    }

    fn write(&mut self) -> io::Result<()> {
        for row in &self.table.rows {
            self.line.clear();
            match self.format {
                Format::Csv => csv(&self.host, &self.table, row, &mut self.line),
                Format::Json => json(&self.host, &self.table, row, &mut self.line),
            }
            self.line.push('\n');
            self.to.write_all(self.line.as_bytes())?;
        }
        self.table.clear();
        Ok(())
    }
}

/// A value, as text, and whether it is a number.
fn value(table: &Table, row: &Row, get: Get) -> Option<(String, bool)> {
    match get {
        Get::Int(get) => get(row).map(|number| (number.to_string(), true)),
        Get::Long(get) => get(row).map(|number| (number.to_string(), true)),
        Get::Text(get) => get(row).map(|text| {
            (
                String::from_utf8_lossy(table.text(text)).into_owned(),
                false,
            )
        }),
        Get::Bytes(get) => get(row).map(|bytes| {
            let digits = table.text(bytes).iter().map(|byte| format!("{byte:02x}"));
            (digits.collect(), false)
        }),
    }
}

fn csv(host: &str, table: &Table, row: &Row, line: &mut String) {
    quoted(host, line);
    for (_, get) in COLUMNS {
        line.push(',');
        if let Some((text, _)) = value(table, row, get) {
            quoted(&text, line);
        }
    }
}

fn quoted(text: &str, line: &mut String) {
    if text.contains([',', '"', '\n', '\r']) {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}

fn json(host: &str, table: &Table, row: &Row, line: &mut String) {
    let string = |text: &str| serde_json::Value::from(text).to_string();
    line.push_str("{\"host\":");
    line.push_str(&string(host));
    for (name, get) in COLUMNS {
        if let Some((text, is_number)) = value(table, row, get) {
            line.push_str(",\"");
            line.push_str(name);
            line.push_str("\":");
            line.push_str(&if is_number { text } else { string(&text) });
        }
    }
    line.push('}');
}

//! Files that were asked for by name; `-` is standard output.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    if path == Path::new("-") {
        return std::io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write the output");
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write_json(path: &Path, results: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(results).context("cannot make JSON")?;
    write(path, &(text + "\n"))
}

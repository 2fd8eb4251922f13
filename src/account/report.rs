//! The report, and the lines of `--json` before it.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::snapshot::{Figures, Snapshot};

/// One line of `--json` while it runs.
#[derive(Debug, Serialize)]
pub struct Stats<'a> {
    /// Always `stats`.
    pub event: &'static str,
    /// Seconds since the capture began.
    pub elapsed_secs: f64,
    /// Packets received a second since the last line.
    pub packets_per_sec: f64,
    /// The sum.
    #[serde(flatten)]
    pub total: &'a Figures,
}

/// The last line of `--json`, and what the report's text is made from.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Always `report`.
    pub event: &'static str,
    /// One account a group or queue.
    pub groups: Vec<Figures>,
    /// Their sum.
    #[serde(flatten)]
    pub total: Figures,
    /// Packets lost before they came to the hook, by the interfaces' and the backlog's counters.
    pub before_hook: u64,
    /// (before the hook + dropped) / (before the hook + detected), the thesis's definition.
    pub lost_percent: Option<f64>,
    /// The ring's files, oldest first. What of a name is not UTF-8 is shown as U+FFFD.
    #[serde(serialize_with = "shown")]
    pub files: Vec<PathBuf>,
    /// The same names byte for byte, in hexadecimal digits, where one of them is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_hex: Option<Vec<String>>,
    /// How long the capture lasted.
    pub elapsed_secs: f64,
    /// Why the account is not exact, or what else is to be said.
    pub remarks: Vec<String>,
}

fn shown<S: Serializer>(files: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(files.iter().map(|file| file.to_string_lossy()))
}

fn hex(files: &[PathBuf]) -> Option<Vec<String>> {
    let digits = |file: &PathBuf| {
        let bytes = file.as_os_str().as_bytes().iter();
        bytes.fold(String::new(), |mut all, byte| {
            let _ = write!(all, "{byte:02x}");
            all
        })
    };
    let readable = files.iter().all(|file| file.to_str().is_some());
    (!readable).then(|| files.iter().map(digits).collect())
}

impl Report {
    /// Puts the report together, from the last snapshot.
    pub fn new(last: Snapshot, before_hook: u64, files: Vec<PathBuf>) -> Report {
        let Snapshot {
            elapsed,
            sources: groups,
            total,
        } = last;
        let lost_percent = total
            .detected
            .map(|detected| percent(before_hook + total.dropped.total(), before_hook + detected));
        Report {
            event: "report",
            groups,
            total,
            before_hook,
            lost_percent,
            files_hex: hex(&files),
            files,
            elapsed_secs: elapsed.as_secs_f64(),
            remarks: Vec::new(),
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    if whole == 0 {
        0.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

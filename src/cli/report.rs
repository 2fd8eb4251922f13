//! The report as text.

use std::fmt::{self, Write as _};

use crate::account::report::Report;
use crate::numbers::grouped;

fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "unknown".to_owned(), grouped)
}

/// A report as text.
pub(super) struct ReportText<'a>(pub(super) &'a Report);

/// Those reasons that there were, each with its number.
fn reasons(why: &[(u64, &str)]) -> String {
    let why: Vec<_> = why
        .iter()
        .filter(|(n, _)| *n != 0)
        .map(|(n, what)| format!("{} {what}", grouped(*n)))
        .collect();
    why.join(", ")
}

impl fmt::Display for ReportText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let total = &report.total;
        let mut detected = known(total.detected);
        if total.detected_uncertain != 0 {
            write!(
                detected,
                " (up to {} more)",
                grouped(total.detected_uncertain)
            )?;
        }
        let mut line = |name: &str, value: &str| writeln!(f, "{name:>22}  {value}");
        line("before the hook", &grouped(report.before_hook))?;
        if let Some(beyond) = total.beyond_rate {
            line("beyond the rate", &grouped(beyond))?;
        }
        line("detected", &detected)?;
        line("received", &grouped(total.received))?;
        if total.discarded == 0 {
            line("written", &grouped(total.written))?;
        } else {
            line("discarded", &grouped(total.discarded))?;
        }
        if total.taken != 0 {
            let text = format!(
                "{} (of them, in files that others removed, cut or overwrote)",
                grouped(total.taken)
            );
            line("taken", &text)?;
        }
        line("dropped: overrun", &grouped(total.dropped.overrun))?;
        match (total.unrecorded, total.left_out) {
            (Some(_), _) => line("queue full", &known(total.dropped.queue))?,
            (None, None) => line("allocation", &known(total.dropped.allocation))?,
            (None, Some(_)) => {} // the hook allocates nothing
        }
        if let Some(lost @ 1..) = total.dropped.no_ring {
            line("processor without ring", &grouped(lost))?;
        }
        if let Some(lost @ 1..) = total.dropped.nested {
            line("nested", &grouped(lost))?;
        }
        line("writer", &grouped(total.dropped.writer))?;
        if let Some(unrecorded) = total.unrecorded {
            line("passed unrecorded", &grouped(unrecorded.passed))?;
            line("refused", &grouped(unrecorded.refused))?;
        }
        if total.skipped != 0 {
            let why = [
                (total.skipped_other_family, "of another family"),
                (total.skipped_malformed, "malformed"),
                (total.skipped_beyond_count, "after --count"),
                (total.skipped_paused, "while paused"),
            ];
            line(
                "skipped",
                &format!("{} ({})", grouped(total.skipped), reasons(&why)),
            )?;
        }
        if let Some(left_out) = total.left_out.filter(|left_out| left_out.total() != 0) {
            let why = [
                (left_out.interface, "other interfaces"),
                (left_out.mark, "without the mark"),
                (left_out.sample, "not sampled"),
                (left_out.cutoff, "beyond the cut-off"),
                (left_out.paused, "while paused"),
            ];
            line(
                "left out",
                &format!("{} ({})", grouped(left_out.total()), reasons(&why)),
            )?;
        }
        match report.lost_percent {
            Some(lost) => line("lost", &format!("{lost:.4} %"))?,
            None => line("lost", "unknown: no rule's counter says what was detected")?,
        }
        if total.stalls != 0 {
            line(
                "stalls",
                &format!("{} ({} ms in sum)", total.stalls, total.stalled_us / 1000),
            )?;
        }
        if total.unstamped != 0 {
            line("without kernel time", &grouped(total.unstamped))?;
        }
        line("elapsed", &format!("{:.1} s", report.elapsed_secs))?;
        line("bytes", &grouped(total.bytes))?;
        if report.groups.len() > 1 {
            for group in &report.groups {
                let what = if group.unrecorded.is_some() {
                    "queue"
                } else {
                    "group"
                };
                let name = format!("{what} {}", group.group.unwrap_or_default());
                let text = format!(
                    "detected {}, written {}, dropped {}",
                    known(group.detected),
                    grouped(group.written + group.discarded),
                    grouped(group.dropped.total())
                );
                line(&name, &text)?;
            }
        }
        for remark in &report.remarks {
            line("note", remark)?;
        }
        let shown = report.files.len().min(4);
        for (place, file) in report.files.iter().rev().take(shown).enumerate() {
            line(
                if place == 0 {
                    "files, newest first"
                } else {
                    ""
                },
                &file.display().to_string(),
            )?;
        }
        if report.files.len() > shown {
            line("", &format!("and {} more", report.files.len() - shown))?;
        }
        Ok(())
    }
}

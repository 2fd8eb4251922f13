//! Captures that run: how many packets come at a time, and what they write.

use serde_json::Value;

use super::Finding;
use crate::control::{Request, VERSION, client, place};
use crate::numbers::grouped;

/// Below so many packets nothing can be said.
const PACKETS_MIN: u64 = 1000;

/// A capture that runs, and what it answered.
pub(super) struct Capture {
    name: String,
    answer: Value,
}

/// All that can be asked.
pub(super) fn ask() -> Vec<Capture> {
    let Some(directory) = place::directory() else {
        return Vec::new();
    };
    let names = place::names(&directory).unwrap_or_default();
    let asked = names.into_iter().filter_map(|name| {
        let request = Request {
            v: VERSION,
            command: "stats".to_owned(),
            args: Vec::new(),
            confirm_secs: None,
        };
        let answer = client::ask(&place::socket(&directory, &name), &request).ok()?;
        Some(Capture { name, answer })
    });
    asked.collect()
}

/// What they write in sum, on average since they began; `None` where none runs.
pub(super) fn bytes_a_second(captures: &[Capture]) -> Option<u64> {
    let rates = captures.iter().filter_map(|Capture { answer, .. }| {
        let bytes = answer.pointer("/stats/bytes")?.as_u64()?;
        Some(bytes.saturating_mul(1000) / elapsed_ms(answer)?)
    });
    rates.reduce(u64::saturating_add)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time since a start is neither negative nor long"
)]
fn elapsed_ms(answer: &Value) -> Option<u64> {
    Some((answer["elapsed_secs"].as_f64()? * 1000.0).max(1.0) as u64)
}

/// Whether its batches are filled as far as its traffic could fill them.
pub(super) fn fill(Capture { name, answer }: &Capture) -> Option<Finding> {
    let number = |pointer: &str| answer.pointer(pointer)?.as_u64();
    // A hook has no batches of the kernel's making.
    if answer
        .pointer("/settings/sample")
        .is_some_and(Value::is_u64)
    {
        return None;
    }
    let (received, batches) = (number("/stats/received")?, number("/stats/batches")?.max(1));
    let (batch, flush_ms) = (number("/settings/batch")?, number("/settings/flush_ms")?);
    let possible = (received * flush_ms / elapsed_ms(answer)?).min(batch);
    let fill = received / batches;
    if received < PACKETS_MIN || fill >= possible / 4 {
        return None;
    }
    let what = format!(
        "the capture {name} gets {} packets at a time, where its traffic would fill {} of {}",
        grouped(fill),
        grouped(possible),
        grouped(batch)
    );
    Some(
        Finding::warning("batch-fill", what)
            .because(
                "each time costs a wake-up: a rule's `queue-threshold` limits it, or the kernel finds no memory in one \
                 piece for a batch (where it hands over single packets, the capture asks for smaller pieces by itself, and says so)",
            )
            .mend("nft list ruleset | grep queue-threshold; echo 1 > /proc/sys/vm/compact_memory"),
    )
}

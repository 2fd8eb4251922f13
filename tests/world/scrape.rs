//! Figures for Prometheus: those of the account, at any moment.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::check::figure;
use crate::play::{Outcome, Play};
use crate::world::{Checked, wrong};

use Outcome::{Done, Nothing};

/// Beside the directory of the control socket.
pub fn socket(runtime: &Path) -> PathBuf {
    runtime.with_extension("figures")
}

/// What is served: each sample, without its source.
fn scraped(socket: &Path) -> Result<BTreeMap<String, f64>, String> {
    let mut stream = UnixStream::connect(socket).map_err(|error| format!("connect: {error}"))?;
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let mut text = String::new();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut text).map(|_| ()))
        .map_err(|error| error.to_string())?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(format!("no head: {text}"));
    };
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.to_owned());
    }
    let mut found = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').ok_or(format!("no sample: {line}"))?;
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let word = labels
            .trim_end_matches('}')
            .split(',')
            .find_map(|label| {
                label
                    .strip_prefix("place=")
                    .or(label.strip_prefix("reason="))
            })
            .map_or(String::new(), |word| format!(" {}", word.trim_matches('"')));
        let value = value.parse().map_err(|_| format!("no figure: {line}"))?;
        if found.insert(format!("{name}{word}"), value).is_some() {
            return Err(format!("a sample twice: {line}"));
        }
    }
    Ok(found)
}

/// The figures that are served are between those that `stats` answers before and after.
pub fn scrape(play: &mut Play, slot: usize) -> Checked<Outcome> {
    let Some(live) = play.slots[slot].live.as_ref().filter(|live| !live.stopped) else {
        return Ok(Nothing);
    };
    let socket = socket(&live.runtime);
    if !play.run(slot).options.metrics {
        return Ok(Nothing);
    }
    play.settle(slot)?;
    let stats = |play: &Play| -> Checked<Value> {
        play.request(slot, "stats", &[], 0)
            .map(|answer| answer["stats"].clone())
            .or_else(|why| wrong("no figures", why))
    };
    let before = stats(play)?;
    let served = match scraped(&socket) {
        Ok(served) => served,
        Err(why) => return wrong("no figures for Prometheus", why),
    };
    let after = stats(play)?;
    let mut pairs: Vec<(String, String)> =
        ["detected", "received", "written", "taken", "unstamped"]
            .iter()
            .map(|name| (format!("lwnflog_{name}_packets_total"), format!("/{name}")))
            .collect();
    for (group, word, prefix) in [
        ("dropped", "dropped", ""),
        ("left_out", "left_out", ""),
        ("", "skipped", "skipped_"),
    ] {
        let of = if group.is_empty() {
            &before
        } else {
            &before[group]
        };
        for name in of.as_object().into_iter().flat_map(|of| of.keys()) {
            if let Some(reason) = name.strip_prefix(prefix)
                && (!prefix.is_empty() || of[name].is_u64())
            {
                let path = if group.is_empty() {
                    format!("/{name}")
                } else {
                    format!("/{group}/{name}")
                };
                pairs.push((format!("lwnflog_{word}_packets_total {reason}"), path));
            }
        }
    }
    pairs.push((
        "lwnflog_files_begun_total".to_owned(),
        "/files_begun".to_owned(),
    ));
    pairs.push((
        "lwnflog_written_bytes_total".to_owned(),
        "/bytes".to_owned(),
    ));
    for (name, path) in pairs {
        if before.pointer(&path).is_none_or(Value::is_null) {
            continue;
        }
        let (from, to) = (figure(&before, &path) as f64, figure(&after, &path) as f64);
        let value = served.get(&name).copied();
        if value.is_none_or(|value| value < from || value > to) {
            return wrong(
                "Prometheus has other figures",
                format!("{name}: {value:?}, {path}: {from} to {to}\n{served:?}\n{before}"),
            );
        }
    }
    let paused = f64::from(u8::from(play.run(slot).is_paused()));
    if play.run(slot).pending.is_empty() && served.get("lwnflog_paused") != Some(&paused) {
        return wrong("Prometheus has another pause", format!("{served:?}"));
    }
    Ok(Done)
}

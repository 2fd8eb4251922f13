//! What can be asked: words, as they are typed, become what a session understands.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::session::keep::Wanted;
use crate::session::orders::Order;
use crate::session::settings::{parse_duration, parse_size};

/// The longest that a change may wait to be confirmed: a hundred days.
const CONFIRM_MAX_SECS: u64 = 100 * 24 * 3600;

/// One request: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub v: u32,
    /// What to do.
    pub command: String,
    /// Its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The change takes itself back after so long, unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_secs: Option<u64>,
}

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The figures of the moment.
    Stats,
    /// The settings that can be changed.
    Settings,
    /// End the capture.
    Stop,
    /// What was to be confirmed stays.
    Confirm,
    /// Take files out of the ring.
    Keep(Wanted),
    /// A change, and after how long it takes itself back.
    Change(Order, Option<Duration>),
}

impl Asked {
    /// Whether it only looks.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Asked::Stats | Asked::Settings)
    }

    /// What a request asks for.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of(request: &Request) -> Result<Asked, String> {
        if request.v != VERSION {
            return Err(format!(
                "version {} is not spoken here: this lwnflog speaks version {VERSION}",
                request.v
            ));
        }
        let args: Vec<&str> = request.args.iter().map(String::as_str).collect();
        let order = match (&*request.command, &args[..]) {
            ("stats", []) => return plain(Asked::Stats, request),
            ("settings", []) => return plain(Asked::Settings, request),
            ("stop", []) => return plain(Asked::Stop, request),
            ("confirm", []) => return plain(Asked::Confirm, request),
            ("keep", words) => return plain(Asked::Keep(wanted(words)?), request),
            (command, _)
                if request
                    .confirm_secs
                    .is_some_and(|secs| secs > CONFIRM_MAX_SECS) =>
            {
                return Err(format!(
                    "{command}: a change waits {CONFIRM_MAX_SECS} seconds at the most to be confirmed"
                ));
            }
            ("rotate", []) if request.confirm_secs.is_some() => {
                return Err("rotate: this cannot be taken back".to_owned());
            }
            ("rotate", []) => Order::Rotate,
            ("pause", []) => Order::Pause(true),
            ("resume", []) => Order::Pause(false),
            ("snaplen", [bytes]) => Order::Snaplen(number(bytes)?),
            ("batch", [packets]) => Order::Batch(above_zero(number(packets)?)?),
            ("flush-ms", [ms]) => Order::FlushMs(number(ms)?),
            ("buffer-size", [size]) => Order::BufferBytes(above_zero(bytes(size, 1024)?)?),
            ("files", [files]) => Order::Files(number(files)?),
            ("file-size", [size]) => Order::FileBytes(bytes(size, 1_000_000)?),
            ("max-bytes", ["none"]) => Order::MaxBytes(None),
            ("max-bytes", [size]) => Order::MaxBytes(Some(bytes(size, 1_000_000)?)),
            ("max-age", ["none"]) => Order::MaxAge(None),
            ("max-age", [time]) => Order::MaxAge(Some(duration(time)?)),
            ("iface", ["all"]) => Order::Interfaces(Vec::new()),
            ("iface", [_, ..]) => Order::Interfaces(request.args.clone()),
            ("match", ["all"]) => Order::Match(None),
            ("match", [_, ..]) => Order::Match(Some(args.join(" "))),
            ("sample", [every]) => Order::Sample(above_zero(number(every)?)?),
            ("cutoff", [size]) => Order::CutoffBytes(bytes(size, 1)?),
            (command, _) => return Err(wrong(command)),
        };
        let confirm = request.confirm_secs.map(Duration::from_secs);
        Ok(Asked::Change(order, confirm))
    }
}

fn plain(asked: Asked, request: &Request) -> Result<Asked, String> {
    match request.confirm_secs {
        None => Ok(asked),
        Some(_) => Err(format!("{}: there is nothing to confirm", request.command)),
    }
}

/// Commands and their values.
pub const COMMANDS: [(&str, &str); 21] = [
    ("stats", ""),
    ("settings", ""),
    ("pause", ""),
    ("resume", ""),
    ("rotate", ""),
    ("snaplen", "BYTES"),
    ("batch", "PACKETS"),
    ("flush-ms", "MS"),
    ("buffer-size", "SIZE"),
    ("files", "N"),
    ("file-size", "SIZE"),
    ("max-bytes", "SIZE | none"),
    ("max-age", "TIME | none"),
    ("keep", "[last=TIME] [next=TIME] [to=DIR]"),
    ("iface", "IF... | all"),
    ("match", "EXPR | all"),
    ("sample", "N"),
    ("cutoff", "SIZE"),
    ("confirm", ""),
    ("stop", ""),
    ("list", ""),
];

fn wrong(command: &str) -> String {
    match COMMANDS.iter().find(|(name, _)| *name == command) {
        Some((name, "")) => format!("{name} takes no value"),
        Some((name, values)) => format!("{name} takes {values}"),
        None => {
            let names: Vec<_> = COMMANDS.iter().map(|(name, _)| *name).collect();
            format!("there is no command `{command}`: {}", names.join(", "))
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no number that this can be"))
}

fn bytes(text: &str, bare_unit: u64) -> Result<u64, String> {
    parse_size(text, bare_unit).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// `last=10m next=2m to=/evidence`, in any order.
fn wanted(words: &[&str]) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    for word in words {
        match word.split_once('=') {
            Some(("last", time)) => wanted.last = duration(time)?,
            Some(("next", time)) => wanted.next = duration(time)?,
            Some(("to", dir)) if dir.starts_with('/') => wanted.to = Some(dir.into()),
            Some(("to", _)) => return Err("to: give the whole path, from / on".to_owned()),
            _ => return Err(wrong("keep")),
        }
    }
    if wanted.last.is_zero() && wanted.next.is_zero() {
        return Err("keep what? Say last=TIME, next=TIME or both".to_owned());
    }
    Ok(wanted)
}

fn above_zero<T: PartialOrd + From<u8>>(number: T) -> Result<T, String> {
    if number < T::from(1) {
        return Err("it has to be above 0".to_owned());
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Asked, String> {
        let request = serde_json::from_str(line).map_err(|error| error.to_string())?;
        Asked::of(&request)
    }

    #[test]
    fn requests_are_read() {
        let change = |order| Ok(Asked::Change(order, None));
        for (line, wanted) in [
            (r#"{"v":1,"command":"stats"}"#, Ok(Asked::Stats)),
            (
                r#"{"v":1,"command":"snaplen","args":["64"]}"#,
                change(Order::Snaplen(64)),
            ),
            (
                r#"{"v":1,"command":"file-size","args":["2G"]}"#,
                change(Order::FileBytes(2_000_000_000)),
            ),
            (
                r#"{"v":1,"command":"iface","args":["all"]}"#,
                change(Order::Interfaces(Vec::new())),
            ),
            (
                r#"{"v":1,"command":"match","args":["tcp","dport","443"]}"#,
                change(Order::Match(Some("tcp dport 443".to_owned()))),
            ),
            (
                r#"{"v":1,"command":"pause","confirm_secs":60}"#,
                Ok(Asked::Change(
                    Order::Pause(true),
                    Some(Duration::from_secs(60)),
                )),
            ),
        ] {
            assert_eq!(of(line), wanted, "{line}");
        }
        for (line, says) in [
            (r#"{"v":2,"command":"stats"}"#, "version 2"),
            (r#"{"v":1,"command":"dance"}"#, "no command `dance`"),
            (r#"{"v":1,"command":"snaplen"}"#, "snaplen takes BYTES"),
            (
                r#"{"v":1,"command":"pause","args":["1"]}"#,
                "takes no value",
            ),
            (r#"{"v":1,"command":"batch","args":["0"]}"#, "above 0"),
            (r#"{"v":1,"command":"snaplen","args":["-1"]}"#, "no number"),
            (
                r#"{"v":1,"command":"stop","confirm_secs":1}"#,
                "nothing to confirm",
            ),
            (r#"{"v":1,"command":"stats","more":1}"#, "unknown field"),
            ("[]", ""),
        ] {
            let error = of(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}

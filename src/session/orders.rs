//! What a running capture can be told: each change checked, done, written into the capture, and
//! known well enough to be taken back.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::files::file_snaplen;
use super::settings::{self, Output, Settings, SourceSettings};
use super::{Session, rule};
use crate::capture::{Answer, Command};
use crate::source::Change;

/// How long a capture may take to answer; a client waits a little longer.
const ANSWER_MAX: Duration = Duration::from_secs(7);
/// What the kernel grants a socket at the most.
const SOCKET_BUFFER_MAX_BYTES: u64 = 1 << 31;

/// Something to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Copy nothing (true), or go on.
    Pause(bool),
    /// Bytes of each frame to write; 0 is whole packets.
    Snaplen(u32),
    /// Packets handed over at a time.
    Batch(u32),
    /// How long a batch may take to fill.
    FlushMs(u64),
    /// The receive buffer of each socket.
    BufferBytes(u64),
    /// Go on to the next file.
    Rotate,
    /// Files that hold packets.
    Files(usize),
    /// Bytes of the ring's files; `None` is no limit.
    MaxBytes(Option<u64>),
    /// How long files are kept; `None` is no limit.
    MaxAge(Option<Duration>),
    /// The most bytes of each, from the next on.
    FileBytes(u64),
    /// The interfaces captured; none is all.
    Interfaces(Vec<String>),
    /// The expression that packets have to match; `None` is all.
    Match(Option<String>),
    /// One packet in so many.
    Sample(u32),
    /// Bytes captured of each connection.
    CutoffBytes(u64),
}

impl Order {
    /// Whether both change the same setting.
    pub fn concerns_the_same(&self, other: &Order) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What an order comes to, before anything is done.
struct Plan {
    command: Command,
    settings: Settings,
    /// `snaplen 128 -> 64`
    what: String,
}

/// The settings that can be changed, as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/CONTROL.md says what each is")]
pub struct Changeable {
    pub paused: bool,
    pub snaplen: u32,
    pub batch: u32,
    pub flush_ms: u64,
    pub buffer_bytes: u64,
    pub files: Option<usize>,
    pub file_bytes: Option<u64>,
    pub max_bytes: Option<u64>,
    pub max_age_secs: Option<u64>,
    pub interfaces: Vec<String>,
    #[serde(rename = "match")]
    pub matching: Option<String>,
    pub sample: Option<u32>,
    pub cutoff_bytes: Option<u64>,
}

impl Session {
    /// The settings that can be changed.
    pub fn changeable(&self) -> Changeable {
        let settings = &self.settings;
        let (output, rule) = (settings.output.as_ref(), settings.rule.as_ref());
        let hook = match &settings.source {
            SourceSettings::Hook(options) => Some(options),
            SourceSettings::Numbers(..) => None,
        };
        Changeable {
            paused: self.paused,
            snaplen: settings.snaplen,
            batch: settings.batch,
            flush_ms: u64::try_from(settings.flush.as_millis()).unwrap_or(u64::MAX),
            buffer_bytes: settings.buffer_bytes as u64,
            files: output.map(|output| output.limits.files),
            max_bytes: output.and_then(|output| output.limits.bytes),
            max_age_secs: output.and_then(|output| Some(output.limits.age?.as_secs())),
            file_bytes: output.map(|output| output.file_bytes),
            interfaces: match (hook, rule) {
                (Some(options), _) => options.interfaces.clone(),
                (None, Some(rule)) => rule.ifaces.clone(),
                (None, None) => Vec::new(),
            },
            matching: rule.and_then(|rule| rule.matching.clone()),
            sample: hook.map(|options| options.sample.unwrap_or(1)),
            cutoff_bytes: hook.and_then(|options| options.cutoff_bytes),
        }
    }

    /// What would take an order back; `None` of one that cannot be.
    pub fn reverse_of(&self, order: &Order) -> Option<Order> {
        let now = self.changeable();
        Some(match order {
            Order::Pause(_) => Order::Pause(now.paused),
            Order::Snaplen(_) => Order::Snaplen(now.snaplen),
            Order::Batch(_) => Order::Batch(now.batch),
            Order::FlushMs(_) => Order::FlushMs(now.flush_ms),
            Order::BufferBytes(_) => Order::BufferBytes(now.buffer_bytes),
            Order::Rotate => return None,
            Order::Files(_) => Order::Files(now.files?),
            Order::MaxBytes(_) => Order::MaxBytes(now.max_bytes),
            Order::MaxAge(_) => Order::MaxAge(self.settings.output.as_ref()?.limits.age),
            Order::FileBytes(_) => Order::FileBytes(now.file_bytes?),
            Order::Interfaces(_) => Order::Interfaces(now.interfaces),
            Order::Match(_) => Order::Match(now.matching),
            Order::Sample(_) => Order::Sample(now.sample?),
            Order::CutoffBytes(_) => Order::CutoffBytes(now.cutoff_bytes?),
        })
    }

    /// Does it, for `by`: a person or program, as the note in the capture names it. Says what has
    /// changed.
    ///
    /// # Errors
    /// The reason, in words: all is as it was then.
    pub fn obey(&mut self, order: &Order, by: &str) -> Result<String, String> {
        match order {
            Order::Rotate => match self.end_live() {
                Ok(true) => return Ok("went on to the next file".to_owned()),
                Ok(false) => return Ok("nothing to do: the live file holds no packet".to_owned()),
                Err(wrong) => return Err(wrong.to_string()),
            },
            Order::Pause(paused) => return self.pause(*paused, by),
            Order::Interfaces(_) | Order::Match(_) if self.settings.rule.is_some() => {
                return self.change_rule(order, by);
            }
            _ => {}
        }
        let Plan {
            command,
            settings,
            what,
        } = self.plan(order)?;
        let undo = self.reverse_of(order).map(|reverse| self.plan(&reverse));
        let undo = undo.and_then(Result::ok).map(|plan| plan.command);
        self.change(command, undo, &what, by)?;
        self.settings = settings;
        Ok(what)
    }

    /// What a change of settings comes to.
    fn plan(&self, order: &Order) -> Result<Plan, String> {
        let mut settings = self.settings.clone();
        let shown = |from: &dyn std::fmt::Display, to: &dyn std::fmt::Display, what: &str| {
            format!("{what} {from} -> {to}")
        };
        let (command, what) = match order {
            Order::Rotate | Order::Pause(_) => return Err("this is no setting".to_owned()),
            Order::Match(_) => {
                return Err(
                    "the selection is the rule's: start with --install-rule to change it, or change your own rule"
                        .to_owned(),
                );
            }
            Order::Snaplen(bytes) => {
                let most = settings.source.snaplen_max();
                settings.snaplen = settings::snaplen(*bytes, most).map_err(|e| e.to_string())?;
                let command = Command::Snaplen {
                    snaplen: settings.snaplen,
                    file_snaplen: file_snaplen(&settings),
                    copy_range_bytes: settings.copy_range_bytes(),
                };
                let what = shown(&self.settings.snaplen, &settings.snaplen, "snaplen");
                (command, what)
            }
            Order::Batch(packets) => {
                let what = shown(&settings.batch, packets, "batch");
                settings.batch = *packets;
                (Command::Source(Change::Batch(*packets)), what)
            }
            Order::FlushMs(ms) => {
                let flush = settings::flush(*ms).map_err(|error| error.to_string())?;
                let what = shown(&settings.flush.as_millis(), ms, "flush-ms");
                settings.flush = flush;
                (Command::Source(Change::Flush(flush)), what)
            }
            Order::BufferBytes(bytes) => {
                let of_socket = matches!(settings.source, SourceSettings::Numbers(..));
                if of_socket && *bytes > SOCKET_BUFFER_MAX_BYTES {
                    return Err(format!(
                        "a buffer of {bytes} bytes is more than the kernel grants a socket: {SOCKET_BUFFER_MAX_BYTES} \
                         at the most"
                    ));
                }
                let what = shown(&settings.buffer_bytes, bytes, "buffer-size");
                settings.buffer_bytes = usize::try_from(*bytes).unwrap_or(usize::MAX);
                let change = Change::BufferBytes(settings.buffer_bytes);
                (Command::Source(change), what)
            }
            Order::Files(_) | Order::FileBytes(_) | Order::MaxBytes(_) | Order::MaxAge(_) => {
                change_files(&mut settings, order)?
            }
            Order::Interfaces(names) => {
                let SourceSettings::Hook(options) = &mut settings.source else {
                    return Err(
                        "the rule decides which interfaces: start with --install-rule to change them, or change your \
                         own rule"
                            .to_owned(),
                    );
                };
                let what = shown(&list(&options.interfaces), &list(names), "iface");
                options.interfaces.clone_from(names);
                (Command::Source(Change::Interfaces(names.clone())), what)
            }
            Order::Sample(every) => {
                let what = match &mut settings.source {
                    SourceSettings::Hook(options) => {
                        let before = options.sample.replace((*every).max(1)).unwrap_or(1);
                        shown(&before, every, "sample")
                    }
                    SourceSettings::Numbers(..) => String::new(),
                };
                (Command::Source(Change::Sample((*every).max(1))), what)
            }
            Order::CutoffBytes(bytes) => {
                let what = match &mut settings.source {
                    SourceSettings::Hook(options) => {
                        let before = options.cutoff_bytes.replace(*bytes).unwrap_or_default();
                        shown(&before, bytes, "cutoff")
                    }
                    SourceSettings::Numbers(..) => String::new(),
                };
                (Command::Source(Change::CutoffBytes(*bytes)), what)
            }
        };
        Ok(Plan {
            command,
            settings,
            what,
        })
    }

    fn pause(&mut self, paused: bool, by: &str) -> Result<String, String> {
        let what = if paused { "paused" } else { "resumed" };
        if self.paused == paused {
            return Ok(format!("nothing to do: it is {what} already"));
        }
        let command = |paused| Command::Source(Change::Paused(paused));
        self.change(command(paused), Some(command(!paused)), what, by)?;
        self.paused = paused;
        Ok(what.to_owned())
    }

    /// One transaction: each packet meets the rule of before or this one.
    fn change_rule(&mut self, order: &Order, by: &str) -> Result<String, String> {
        let SourceSettings::Numbers(target, numbers) = &self.settings.source else {
            return Err("there is no rule".to_owned());
        };
        let (Some(mut request), Some(installed)) =
            (self.settings.rule.clone(), self.installed.as_mut())
        else {
            return Err("there is no rule of this capture's own".to_owned());
        };
        let what = match order {
            Order::Interfaces(names) => {
                let what = format!("iface {} -> {}", list(&request.ifaces), list(names));
                request.ifaces.clone_from(names);
                what
            }
            Order::Match(text) => {
                let named = |text: &Option<String>| text.clone().unwrap_or("all".to_owned());
                let what = format!("match {} -> {}", named(&request.matching), named(text));
                request.matching.clone_from(text);
                what
            }
            _ => return Err("this is not the rule's".to_owned()),
        };
        let spec = rule::spec(*target, numbers, &request, true).map_err(|e| e.to_string())?;
        installed
            .replace(&spec)
            .map_err(|error| error.to_string())?;
        self.settings.rule = Some(request);
        // The rule is in force: a capture that is slow to note it makes nothing undone.
        let _ = self.ask(Command::Note, Some(&note(&what, by)));
        Ok(what)
    }

    /// Has every capture do something of its own accord, and note it.
    pub(super) fn change_noting(&self, command: Command, what: &str) -> Result<(), String> {
        let asked = self.ask(command, Some(&note(what, "itself")));
        asked.map(drop).map_err(|wrong| wrong.to_string())
    }

    /// Has every capture note something, when it comes to that.
    pub fn note_only(&self, what: &str) {
        let noted = note(what, "itself");
        drop(self.control.ask_noting(Command::Note, Some(&noted)));
    }

    /// Has every capture change something, or none: where one does not, `undo` follows.
    fn change(
        &self,
        command: Command,
        undo: Option<Command>,
        what: &str,
        by: &str,
    ) -> Result<(), String> {
        let wrong = match self.ask(command, Some(&note(what, by))) {
            Ok(_) => return Ok(()),
            Err(wrong) => wrong,
        };
        let Some(undo) = undo.filter(|_| !self.all_refuse(&wrong)) else {
            return Err(wrong.to_string());
        };
        // A capture takes commands in order: one that has not answered does the first one, when it
        // goes on, and this one behind it.
        let back = note(&format!("{what} is taken back: {wrong}"), "itself");
        let answers = self.control.ask_noting(undo, Some(&back));
        match &wrong {
            Wrong::Silent => Err(format!(
                "{wrong}; what it may do of it when it goes on is taken back"
            )),
            Wrong::Refused { by, .. } => match collect(&answers, self.running.len()) {
                Ok(_) => Err(wrong.to_string()),
                // Who has not done it has nothing to take back.
                Err(Wrong::Refused { by: again, .. }) if again <= *by => Err(wrong.to_string()),
                Err(again) => Err(format!(
                    "{wrong}; others had done it, and whether all of them have taken it back is not known: {again}"
                )),
            },
        }
    }

    /// With what the kernel has of it yet.
    fn end_live(&self) -> Result<bool, Wrong> {
        thread::sleep(self.handed_over_within());
        self.ask(Command::Rotate, None)
    }

    fn all_refuse(&self, wrong: &Wrong) -> bool {
        matches!(wrong, Wrong::Refused { by, .. } if *by == self.running.len())
    }

    /// Has every capture do something. True where one of them had something to do.
    fn ask(&self, command: Command, note: Option<&str>) -> Result<bool, Wrong> {
        let answers = self.control.ask_noting(command, note);
        collect(&answers, self.running.len())
    }
}

/// Why not every capture has done what was asked.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    /// So many of them say no.
    #[error("{reason}")]
    Refused { reason: String, by: usize },
    /// One of them says nothing.
    #[error("the capture has not answered for {} s", ANSWER_MAX.as_secs())]
    Silent,
}

/// The answers of so many captures.
fn collect(answers: &Receiver<Answer>, captures: usize) -> Result<bool, Wrong> {
    let deadline = Instant::now() + ANSWER_MAX;
    let (mut done, mut by, mut refused) = (false, 0, None);
    for _ in 0..captures {
        match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Answer::Done) => done = true,
            Ok(Answer::NothingToDo) => {}
            Ok(Answer::Refused(reason)) => {
                by += 1;
                refused = Some(reason);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => return Err(Wrong::Silent),
        }
    }
    refused.map_or(Ok(done), |reason| Err(Wrong::Refused { reason, by }))
}

fn change_files(settings: &mut Settings, order: &Order) -> Result<(Command, String), String> {
    let before = settings.output.clone();
    let before = before.ok_or("nothing is written: there are no files")?;
    let mut output = before.clone();
    let what = match order {
        Order::Files(files) => {
            output.limits.files = *files;
            format!("files {} -> {files}", before.limits.files)
        }
        Order::MaxBytes(bytes) => {
            output.limits.bytes = *bytes;
            let shown = |bytes: Option<u64>| bytes.map_or("none".to_owned(), |b| b.to_string());
            let (from, to) = (shown(before.limits.bytes), shown(*bytes));
            format!("max-bytes {from} -> {to}")
        }
        Order::MaxAge(age) => {
            output.limits.age = *age;
            let shown = |age: Option<Duration>| {
                age.map_or("none".to_owned(), |age| {
                    humantime::format_duration(age).to_string()
                })
            };
            let (from, to) = (shown(before.limits.age), shown(*age));
            format!("max-age {from} -> {to}")
        }
        Order::FileBytes(bytes) => {
            output.file_bytes = *bytes;
            format!("file-size {} -> {bytes}", before.file_bytes)
        }
        _ => String::new(),
    };
    // The directory is there, whatever it is called.
    output.check_sizes().map_err(|error| error.to_string())?;
    settings.output = Some(output.clone());
    *settings = settings
        .clone()
        .check()
        .map_err(|error| error.to_string())?;
    let Output {
        limits, file_bytes, ..
    } = output;
    Ok((Command::Files { limits, file_bytes }, what))
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "all".to_owned()
    } else {
        names.join(",")
    }
}

/// `lwnflog 2026-11-26T20:00:00Z snaplen 128 -> 64 by uid 0`
fn note(what: &str, by: &str) -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    format!("lwnflog {now} {what} by {by}")
}

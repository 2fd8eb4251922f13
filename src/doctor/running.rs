//! Captures that run, as they answer on their control sockets: whose group is whose, how many packets
//! come at a time, what is lost, what is written; and those that do not answer.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use serde_json::Value;

use super::{Finding, text};
use crate::control::{Request, VERSION, place};
use crate::numbers::grouped;

/// Below so many packets nothing can be said.
const PACKETS_MIN: u64 = 1000;
/// A capture that has not answered by then is said not to.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longer than any answer.
const ANSWER_BYTES: u64 = 1 << 20;

/// A capture that runs, and what it answered.
#[derive(Debug)]
pub(super) struct Capture {
    name: String,
    pub(super) pid: u32,
    answer: Value,
}

/// What was heard of all sockets.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) captures: Vec<Capture>,
    /// The names of those that do not answer, and their processes.
    silent: Vec<(String, u32)>,
}

/// Asks all that can be asked, each at the same time.
pub(super) fn ask() -> Heard {
    let Some(directory) = place::directory() else {
        return Heard::default();
    };
    let names = place::names(&directory).unwrap_or_default();
    let (to, answers) = mpsc::channel();
    let count = names.len();
    for name in names {
        let (socket, to) = (place::socket(&directory, &name), to.clone());
        // Whoever still waits when this process ends goes with it.
        thread::spawn(move || {
            let asked = Asked::connect(&socket);
            let pid = asked.as_ref().ok().map(|asked| asked.pid);
            let _ = to.send((name.clone(), pid, None));
            let answer = asked.and_then(Asked::answer);
            let _ = to.send((name, pid, Some(answer)));
        });
    }
    drop(to);
    let mut heard = Heard::default();
    let (deadline, mut done) = (Instant::now() + PATIENCE, 0);
    while done < count {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((name, pid, answer)) = answers.recv_timeout(left) else {
            break;
        };
        let Some(pid) = pid else {
            // Nobody is there.
            done += usize::from(answer.is_some());
            continue;
        };
        match answer {
            None => heard.silent.push((name, pid)),
            Some(answer) => {
                done += 1;
                heard.silent.retain(|(silent, _)| *silent != name);
                // What answers something else is no capture's control.
                let answer = answer.ok().filter(|answer| answer["stats"].is_object());
                heard
                    .captures
                    .extend(answer.map(|answer| Capture { name, pid, answer }));
            }
        }
    }
    // A socket of figures is of a capture that has answered on another one.
    let answered: HashSet<u32> = heard.captures.iter().map(|capture| capture.pid).collect();
    heard
        .silent
        .retain(|(_, pid)| !answered.contains(pid) && is_lwnflog(*pid));
    heard
}

/// Whether a process is one of ours, by its name.
pub(super) fn is_lwnflog(pid: u32) -> bool {
    text(&format!("/proc/{pid}/comm")).as_deref() == Some("lwnflog")
}

struct Asked {
    stream: UnixStream,
    pid: u32,
}

impl Asked {
    fn connect(socket: &Path) -> io::Result<Asked> {
        let stream = UnixStream::connect(socket)?;
        let pid = socket_peercred(&stream)?.pid.as_raw_nonzero().get();
        let pid = u32::try_from(pid).map_err(io::Error::other)?;
        Ok(Asked { stream, pid })
    }

    fn answer(mut self) -> io::Result<Value> {
        let request = Request {
            v: VERSION,
            command: "stats".to_owned(),
            args: Vec::new(),
            confirm_secs: None,
        };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new((&self.stream).take(ANSWER_BYTES)).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Heard {
    /// The capture that this process is.
    pub(super) fn of_process(&self, pid: u32) -> Option<&Capture> {
        self.captures.iter().find(|capture| capture.pid == pid)
    }

    /// The groups of this network namespace that a capture has had packets from.
    pub(super) fn received(&self) -> Vec<u16> {
        let here = self.captures.iter().filter(|capture| capture.is_here());
        let sources = here.filter_map(|capture| capture.answer["sources"].as_array());
        let groups = sources.flatten().filter_map(|source| {
            let packets = source["received"].as_u64()?;
            let recorded = packets > source["skipped"].as_u64().unwrap_or_default();
            let group = u16::try_from(source["group"].as_u64()?).ok()?;
            recorded.then_some(group)
        });
        groups.collect()
    }

    /// What can be said of them.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.silent.iter().map(silent).collect();
        findings.extend(self.captures.iter().filter_map(fill));
        findings.extend(self.captures.iter().filter_map(losses));
        findings.extend(self.captures.iter().filter_map(alone));
        findings
    }

    /// What they write in sum, on average since they began; `None` where none runs.
    pub(super) fn bytes_a_second(&self) -> Option<u64> {
        let rates = self.captures.iter().filter_map(|Capture { answer, .. }| {
            let bytes = answer.pointer("/stats/bytes")?.as_u64()?;
            Some(bytes.saturating_mul(1000) / elapsed_ms(answer)?)
        });
        rates.reduce(u64::saturating_add)
    }
}

impl Capture {
    /// `g5`
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn number(&self, pointer: &str) -> Option<u64> {
        self.answer.pointer(pointer)?.as_u64()
    }

    /// Whether it is in this network namespace.
    fn is_here(&self) -> bool {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        of(&self.pid.to_string()) == of("thread-self")
    }

    /// `12,000 written, 0 lost`
    pub(super) fn told(&self) -> String {
        let number = |pointer| self.number(pointer).unwrap_or_default();
        let kept = number("/stats/written") + number("/stats/discarded");
        format!("{} recorded, {} lost", grouped(kept), grouped(self.lost()))
    }

    fn lost(&self) -> u64 {
        let dropped = self.answer.pointer("/stats/dropped");
        let places = dropped.and_then(Value::as_object);
        places.map_or(0, |places| places.values().filter_map(Value::as_u64).sum())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time since a start is neither negative nor long"
)]
fn elapsed_ms(answer: &Value) -> Option<u64> {
    Some((answer["elapsed_secs"].as_f64()? * 1000.0).max(1.0) as u64)
}

fn silent((name, pid): &(String, u32)) -> Finding {
    let what = format!(
        "the capture {name} (process {pid}) has not answered for {} s",
        PATIENCE.as_secs()
    );
    let stat = text(&format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('T' | 't') => Finding::error("silent", format!("{what}: it is stopped"))
            .because("what arrives meanwhile fills the kernel's buffer, and is lost")
            .mend(format!("kill -CONT {pid}")),
        _ => Finding::error("silent", what)
            .because("a disk or file system that answers nobody holds it up, most of the time")
            .mend(format!(
                "cat /proc/{pid}/wchan /proc/{pid}/status   # where it waits"
            )),
    }
}

/// What it has lost, by place.
fn losses(capture: &Capture) -> Option<Finding> {
    let lost = capture.lost();
    let number = |pointer| capture.number(pointer).unwrap_or_default();
    let overrun = number("/stats/dropped/overrun");
    if lost == 0 {
        return None;
    }
    let (name, of) = (
        &capture.name,
        number("/stats/received").saturating_add(lost),
    );
    let what = format!(
        "the capture {name} has lost {} of {} packets",
        grouped(lost),
        grouped(of)
    );
    if overrun < lost.div_ceil(2) {
        return Some(Finding::warning("losses", what).because(
            "not by a buffer that was full: the report and docs/OPERATIONS.md say what each place means",
        ));
    }
    let more = number("/settings/buffer_bytes")
        .saturating_mul(2)
        .max(4 << 20);
    Some(
        Finding::warning("losses", what)
            .because("most of them while its buffer was full: a larger one bridges longer pauses (--buffer-size at the next start)")
            .mend(format!("lwnflog ctl {name} buffer-size {more}B")),
    )
}

/// A capture whose network namespace nobody else is in: a container that was made anew has another
/// one.
fn alone(capture: &Capture) -> Option<Finding> {
    let of = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let own = of(Path::new(&format!("/proc/{}", capture.pid)))?;
    let of_others = ["/proc/1", "/proc/thread-self"].map(|process| of(Path::new(process)));
    if of_others.contains(&Some(own.clone())) {
        return None;
    }
    // `ip netns` keeps a namespace by a name.
    let inode = fs::metadata(format!("/proc/{}/ns/net", capture.pid))
        .ok()?
        .ino();
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let named = names
        .filter_map(|name| fs::metadata(name.path()).ok())
        .any(|name| name.ino() == inode);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut others = processes.filter(|process| {
        let name = process.file_name();
        let pid = name.to_str().and_then(|name| name.parse::<u32>().ok());
        pid.is_some_and(|pid| pid != capture.pid && !is_lwnflog(pid))
            && of(&process.path()).as_ref() == Some(&own)
    });
    if named || others.next().is_some() {
        return None;
    }
    let what = format!(
        "the capture {} is alone in its network namespace",
        capture.name
    );
    Some(Finding::warning("alone", what).because(
        "what had this namespace has ended; a container that was started anew has another one, and is not captured",
    ))
}

/// Whether its batches are filled as far as its traffic could fill them.
fn fill(Capture { name, answer, .. }: &Capture) -> Option<Finding> {
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

//! What the program may say on standard error, and when: each line belongs to something that happened.

use crate::model::{Run, Why};

/// When a message may come.
enum When {
    Always,
    /// Something of this has happened to the run.
    After(&'static [Why]),
}
use When::{After, Always};

/// `*` stands for anything.
const KNOWN: &[(&str, When)] = &[
    ("capturing * to *, at most * bytes: *", Always),
    ("capturing * to *, WITHOUT LIMIT: *", Always),
    ("capturing * to standard output: *", Always),
    (
        "capturing * to nowhere: packets are counted and thrown away: *",
        Always,
    ),
    (
        "the capture ended early: the stream: *",
        After(&[Why::Flooded]),
    ),
    // The ring or others had taken it before its turn came.
    (
        "`cp -t * for *: it has failed *",
        After(&[Why::Compressed, Why::FinishedTaken]),
    ),
    ("packets come from the rule *", Always),
    ("figures are served at *", Always),
    (
        "no nftables rule of this network namespace hands packets to *",
        After(&[Why::RuleReloaded]),
    ),
    ("* hands packets to * as well*", After(&[Why::OtherRules])),
    (
        "finished * of a run that was killed: * packets",
        After(&[Why::KilledBefore]),
    ),
    (
        "finished * of a run that was killed: * packets; damaged parts were replaced by padding blocks",
        After(&[Why::KilledBefore]),
    ),
    (
        "removed an empty file of a run that was killed",
        After(&[Why::KilledBefore]),
    ),
    ("pause* (by uid 0)", After(&[Why::Told])),
    ("resume* (by uid 0)", After(&[Why::Told])),
    ("* -> * (by uid 0)", After(&[Why::Told])),
    ("* (by uid 0)", After(&[Why::Told])),
    ("*uid 0*ends the capture", Always),
    ("nobody has confirmed it: *", After(&[Why::Confirmed])),
    (
        "kept * files (* bytes) in * for uid 0*",
        After(&[Why::Kept]),
    ),
    ("kept * file* in *", After(&[Why::Kept])),
    ("no more is kept in *", After(&[Why::Kept])),
    (
        "the disk is full: the ring goes on with * files, the oldest is overwritten early; make room",
        After(&[Why::Full]),
    ),
    (
        "the disk is full: the next file gets the * bytes that are left; make room",
        After(&[Why::Full]),
    ),
    (
        "no file to write to (*): packets count as dropped by the writer until there is one",
        After(&[Why::Full, Why::ReadOnly, Why::Locked, Why::Short, Why::Away]),
    ),
    (
        "there is a file to write to again: writing goes on",
        After(&[Why::Full, Why::ReadOnly, Why::Locked, Why::Short, Why::Away]),
    ),
    (
        "*: somebody has removed this file, or cut it, and with it the packets that were written to it, which count as taken; the next file begins",
        After(&[Why::LiveTaken]),
    ),
    (
        "readers have had removed files of * bytes open: until they close them, the ring takes so much more than its limit",
        Always,
    ),
    (
        "*: the file system had become read-only: its * packets are not on the disk, and count as dropped by the writer",
        After(&[Why::ReadOnly]),
    ),
    (
        "*: the file system has become read-only while it was written: it is not known how many of its * packets are on the disk",
        After(&[Why::ReadOnly]),
    ),
    (
        "*: it cannot be cut, renamed or removed, and is left as it is: *",
        After(&[
            Why::ReadOnly,
            Why::FinishedTaken,
            Why::Overlay,
            Why::Locked,
            Why::Short,
        ]),
    ),
    (
        "a counter of the rules was reset, reloaded or removed*",
        After(&[Why::RuleReloaded]),
    ),
    (
        "* packets were lost *: *",
        After(&[
            Why::Stopped,
            Why::Full,
            Why::ReadOnly,
            Why::Frozen,
            Why::Locked,
            Why::Short,
            Why::Flooded,
        ]),
    ),
    (
        "the process for finished files has ended (*): it is started again",
        After(&[Why::ChoresKilled]),
    ),
    (
        "* finished files are not compressed, or handed to --on-rotate, because there was no process for it: *",
        After(&[Why::ChoresKilled]),
    ),
    (
        "the process for finished files has ended (*): it is started again",
        After(&[Why::ChoresKilled]),
    ),
    (
        "* finished files wait since an earlier run for what is done with them: now it is",
        After(&[Why::KilledBefore, Why::Full, Why::Compressed]),
    ),
    (
        "*: the ring has given this file up before it was its turn",
        After(&[Why::Compressed]),
    ),
    (
        "* finished files wait for what is done with them*",
        After(&[Why::Compressed]),
    ),
    (
        "not kept: *: it is gone",
        After(&[Why::FinishedTaken, Why::Compressed, Why::Kept]),
    ),
    (
        "the rules counted fewer packets of * than came: *",
        After(&[Why::RuleReloaded]),
    ),
    (
        "not kept: *: kept files take * bytes, as many as they may (--keep-bytes *): move or remove some",
        After(&[Why::Kept]),
    ),
    (
        "not kept: *: No space left on device (os error 28)",
        After(&[Why::Full]),
    ),
    (
        "*: it cannot be compressed, and stays as it is: No space left on device (os error 28)",
        After(&[Why::Full]),
    ),
    (
        "counters that came while capturing showed * packets when they were first seen: those are not in detected",
        After(&[Why::RuleReloaded]),
    ),
    ("still starting: *", Always),
    (
        "not kept: *",
        After(&[Why::Away, Why::Locked, Why::Failed, Why::Short]),
    ),
    (
        "the process for finished files cannot be started again: *",
        After(&[Why::Short, Why::Failed]),
    ),
    (
        "what is done with * finished files was ended: the next start takes them up",
        After(&[Why::ChoresStopped, Why::ChoresKilled]),
    ),
    (
        "*: the file system, or the disk under it, has failed: it is not known how many of its * packets are on the disk",
        After(&[Why::Failed]),
    ),
    (
        "*sets a snaplen or queue-threshold of its own*",
        After(&[Why::RuleChanged]),
    ),
    (
        "* finished files wait for what is done with them: the process for it *",
        After(&[Why::ChoresStopped]),
    ),
    (
        "*: it cannot be compressed, and stays as it is: *",
        After(&[Why::Locked, Why::Failed, Why::Foreign, Why::Away]),
    ),
    (
        "the capture has ended before the time was over that was to be kept: *",
        After(&[Why::Kept]),
    ),
    (
        "* finished files are not compressed, or handed to --on-rotate, because there was no process for it: the next start takes them up",
        After(&[Why::ChoresKilled]),
    ),
    (
        "--keep-on: nothing can be kept as it is: *(--keep-bytes *): move or remove some",
        After(&[Why::Kept]),
    ),
    (
        "* finished files are not yet compressed, or handed to --on-rotate: they have 30 s*",
        After(&[Why::Compressed]),
    ),
    ("* packets/s, * written, * dropped, * skipped*", Always),
];

/// Lines of the report, and of what follows it.
const REPORT: &[&str] = &[
    "before the hook",
    "detected",
    "received",
    "written",
    "discarded",
    "dropped:",
    "allocation",
    "writer",
    "queue",
    "lost",
    "elapsed",
    "bytes",
    "files, newest first",
    "skipped",
    "and ",
    "passed unrecorded",
    "without kernel time",
    "refused",
    "unrecorded",
    "left out",
    "paused",
    "other family",
    "interface",
    "mark",
    "sample",
    "cutoff",
    "group ",
    "taken",
    "stalls",
];

pub fn fits(pattern: &str, line: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// What is wrong with a line, if anything is.
pub fn judge(line: &str, run: &Run) -> Option<String> {
    if line.contains("panicked") || line.contains("stack backtrace") {
        return Some(format!("a panic: {line}"));
    }
    let plain = line.trim_start();
    let said = line
        .strip_prefix("lwnflog: ")
        .or_else(|| plain.strip_prefix("note ").map(str::trim_start));
    let Some(said) = said else {
        let report = REPORT.iter().any(|word| plain.starts_with(word))
            || plain.starts_with('/')
            || plain.starts_with("cp: cannot stat") && run.options.on_rotate
            || plain.is_empty();
        return (!report).then(|| format!("neither a message nor a line of the report: {line}"));
    };
    let mut known = None;
    for (pattern, when) in KNOWN.iter().filter(|(pattern, _)| fits(pattern, said)) {
        match when {
            Always => return None,
            After(causes) if causes.iter().any(|why| run.has(*why)) => return None,
            After(_) => known = Some(*pattern),
        }
    }
    Some(match known {
        Some(pattern) => format!("nothing has happened that explains it (`{pattern}`): {line}"),
        None => format!("the table of messages does not know it: {line}"),
    })
}

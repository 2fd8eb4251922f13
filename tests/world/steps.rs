//! What can be done in the world: a step, with all that it takes. A list of steps is a script that a
//! person can read, one a line, and that is read back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::faults::Fault;
use crate::side::Side;
use crate::traffic::What;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    Ext4,
    Xfs,
    Tmpfs,
    Overlay,
    /// A tmpfs that fills up.
    SmallTmpfs,
    /// An ext4 that fills up.
    SmallExt4,
}

pub const PLACES: [Place; 6] = [
    Place::Ext4,
    Place::Xfs,
    Place::Tmpfs,
    Place::Overlay,
    Place::SmallTmpfs,
    Place::SmallExt4,
];

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Ext4 => "ext4",
            Place::Xfs => "xfs",
            Place::Tmpfs => "tmpfs",
            Place::Overlay => "overlay",
            Place::SmallTmpfs => "small-tmpfs",
            Place::SmallExt4 => "small-ext4",
        }
    }

    pub fn is_small(self) -> bool {
        matches!(self, Place::SmallTmpfs | Place::SmallExt4)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A group whose rule others have loaded.
    Group,
    /// A group with `--install-rule`.
    Installed,
    Hook,
    Queue,
}

/// A capture begins: in a directory of its own, or again where the last one of its name was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    pub capture: u8,
    pub again: bool,
    pub source: Source,
    pub place: Place,
    pub snaplen: u32,
    pub file_kib: u64,
    /// 0: none.
    pub files: u64,
    /// 0: none.
    pub max_kib: u64,
    /// "pcapng" or "pcap"
    pub format: String,
    /// "ethernet" or "ip"
    pub link: String,
    /// "", "zstd", "lz4"
    pub compress: String,
    pub index: bool,
    pub both_families: bool,
    /// 0: all.
    pub only_port: u16,
    pub rotate_secs: u64,
    pub flush_ms: u64,
    pub batch: u64,
    pub buffer_mib: u64,
    /// A packet to port 9001 has files kept.
    #[serde(default)]
    pub keep_on: bool,
    /// Its clocks of the time since the start are so many days ahead.
    #[serde(default)]
    pub boot_days: u64,
    /// Of a hook, or of the rule it installs: "" for prerouting, "input", "forward".
    #[serde(default)]
    pub at: String,
    /// Figures are served for Prometheus.
    #[serde(default)]
    pub metrics: bool,
    /// "": all; else "lo", "vx0": of a hook, or of the rule it installs.
    #[serde(default)]
    pub iface: String,
    /// Of the rule it installs.
    #[serde(default)]
    pub prefix: String,
    /// Finished files are handed to a command, which copies them.
    #[serde(default)]
    pub on_rotate: bool,
    /// 0: none.
    #[serde(default)]
    pub max_age_secs: u64,
    /// Of a hook: one in so many; 0: all.
    #[serde(default)]
    pub sample: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    Begin(Begin),
    /// The end: SIGINT, SIGTERM, SIGQUIT or `ctl stop`.
    End {
        capture: u8,
        by: String,
    },
    Send {
        #[serde(flatten)]
        what: What,
        packets: u64,
    },
    TrafficOn {
        #[serde(flatten)]
        what: What,
        rate: u64,
    },
    TrafficOff,
    /// More at once than a capture takes.
    Flood {
        #[serde(flatten)]
        what: What,
        packets: u64,
    },
    /// Frames that never come to a hook.
    Foreign {
        packets: u64,
    },
    Wait {
        ms: u64,
    },
    /// All that was sent is accounted for; then every file is looked at.
    Look {
        capture: u8,
    },
    Ctl {
        capture: u8,
        order: String,
        confirm_secs: u64,
    },
    Confirm {
        capture: u8,
    },
    /// A request that makes no sense: is refused, and changes nothing.
    BadOrder {
        capture: u8,
        order: String,
    },
    Hup {
        capture: u8,
    },
    Usr1 {
        capture: u8,
    },
    Keep {
        capture: u8,
        last_secs: u64,
        next_secs: u64,
    },
    /// A reader runs from its beginning to its end.
    Read {
        capture: u8,
        how: String,
    },
    Follow {
        capture: u8,
    },
    FollowEnd {
        capture: u8,
    },
    Tshark {
        capture: u8,
    },
    /// What is made of rings, and its sums.
    Export {
        capture: u8,
        how: String,
    },
    /// A capture that begins and ends within the step.
    Side(Side),
    /// Figures for Prometheus.
    Scrape {
        capture: u8,
    },
    // Faults.
    Kill {
        capture: u8,
        settled: bool,
    },
    KillChores {
        capture: u8,
    },
    Stop {
        capture: u8,
    },
    Continue {
        capture: u8,
    },
    StopFollower {
        capture: u8,
    },
    ContinueFollower {
        capture: u8,
    },
    KillFollower {
        capture: u8,
    },
    /// A reader is killed in the middle.
    KillReader {
        capture: u8,
        how: String,
        ms: u64,
    },
    /// All room but so much is taken.
    Fill {
        place: Place,
        leave_kib: u64,
    },
    Free {
        place: Place,
    },
    ReadOnly {
        place: Place,
    },
    Writable {
        place: Place,
    },
    /// Frozen for so long, with packets meanwhile.
    Freeze {
        place: Place,
        ms: u64,
        packets: u64,
    },
    RemoveLive {
        capture: u8,
    },
    RemoveFinished {
        capture: u8,
        nth: u64,
    },
    CopyFile {
        capture: u8,
        nth: u64,
    },
    LinkFile {
        capture: u8,
        nth: u64,
    },
    /// Somebody has a file of the ring open.
    OpenFile {
        capture: u8,
        nth: u64,
    },
    CloseFiles,
    RemoveIndexes {
        capture: u8,
    },
    /// Another capture wants the same ring.
    SecondCapture {
        capture: u8,
    },
    /// The rule of a group is loaded anew, whole.
    ReloadRule {
        capture: u8,
    },
    RenameInterface {
        back: bool,
    },
    NewInterface,
    RemoveInterface,
    /// Somebody else's rules come and go.
    OtherRules {
        on: bool,
    },
    Doctor {
        capture: u8,
    },
    /// Somebody cuts a finished file in half.
    CutFile {
        capture: u8,
        nth: u64,
    },
    /// Somebody moves a finished file out of the ring.
    MoveFile {
        capture: u8,
        nth: u64,
    },
    /// Somebody gives a finished file another time of change.
    TouchFile {
        capture: u8,
        nth: u64,
        date: String,
    },
    /// `lwnflog repair` of a finished file changes nothing, of a live one is refused.
    Repair {
        capture: u8,
        nth: u64,
        dry_run: bool,
    },
    /// A reader with few descriptors, or little memory.
    PoorRead {
        capture: u8,
        how: String,
        limit: String,
    },
    /// Four clients at once.
    Clients {
        capture: u8,
    },
    /// As much as the file system holds at this moment, on another machine: copied as the device has it.
    PowerLoss {
        capture: u8,
        sync: bool,
    },
    #[serde(untagged)]
    More(Fault),
}

impl Step {
    pub fn value(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            other => panic!("a step that is no object: {other:?}"),
        }
    }

    /// What kind of step it is.
    pub fn kind(&self) -> String {
        let map = self.value();
        let name = map["step"].as_str().unwrap_or_default().to_owned();
        match self {
            Step::Begin(begin) => format!(
                "begin-{}",
                word(&serde_json::to_value(begin.source).unwrap_or_default())
            ),
            Step::Ctl { order, .. } => {
                format!("ctl-{}", order.split(' ').next().unwrap_or_default())
            }
            Step::End { by, .. } => format!("end-{by}"),
            Step::Read { how, .. } => format!("read-{how}"),
            Step::Export { how, .. } => format!("export-{how}"),
            Step::Side(side) => format!("side-{}", side.how),
            _ => name,
        }
    }

    pub fn is_fault(&self) -> bool {
        if let Step::More(fault) = self {
            return !fault.is_end();
        }
        matches!(
            self,
            Step::Kill { .. }
                | Step::KillChores { .. }
                | Step::Stop { .. }
                | Step::StopFollower { .. }
                | Step::KillFollower { .. }
                | Step::KillReader { .. }
                | Step::Fill { .. }
                | Step::ReadOnly { .. }
                | Step::Freeze { .. }
                | Step::RemoveLive { .. }
                | Step::RemoveFinished { .. }
                | Step::OpenFile { .. }
                | Step::LinkFile { .. }
                | Step::CopyFile { .. }
                | Step::RemoveIndexes { .. }
                | Step::SecondCapture { .. }
                | Step::ReloadRule { .. }
                | Step::RenameInterface { .. }
                | Step::NewInterface
                | Step::RemoveInterface
                | Step::OtherRules { .. }
                | Step::PowerLoss { .. }
                | Step::CutFile { .. }
                | Step::MoveFile { .. }
                | Step::TouchFile { .. }
                | Step::PoorRead { .. }
                | Step::Clients { .. }
                | Step::Flood { .. }
                | Step::Foreign { .. }
        )
    }

    /// Whether it may add chains or programs to the hooks, at an early priority.
    pub fn adds_chains(&self) -> bool {
        match self {
            Step::Begin(begin) => matches!(begin.source, Source::Installed | Source::Hook),
            Step::Side(_) | Step::ReloadRule { .. } => true,
            Step::More(fault) => matches!(
                fault,
                Fault::FlushRules
                    | Fault::DropRule { .. }
                    | Fault::ChangeRule { .. }
                    | Fault::MendPlace { .. }
            ),
            _ => false,
        }
    }

    pub fn is_order(&self) -> bool {
        matches!(
            self,
            Step::Begin(_)
                | Step::End { .. }
                | Step::Ctl { .. }
                | Step::Confirm { .. }
                | Step::BadOrder { .. }
                | Step::Hup { .. }
                | Step::Usr1 { .. }
                | Step::Keep { .. }
                | Step::Read { .. }
                | Step::Follow { .. }
                | Step::FollowEnd { .. }
                | Step::Doctor { .. }
                | Step::Scrape { .. }
                | Step::Side(_)
                | Step::Export { .. }
                | Step::Repair { .. }
        )
    }

    /// `begin capture=0 source=hook place=ext4 ...`
    pub fn line(&self) -> String {
        let mut map = self.value();
        let name = map.remove("step");
        let mut line = word(&name.unwrap_or_default());
        for (key, value) in &map {
            line += &format!(" {key}={}", word(value));
        }
        line
    }

    pub fn parse(line: &str) -> Result<Step, String> {
        let words = shlex::split(line).ok_or(format!("quotes: {line}"))?;
        let mut map = Map::new();
        map.insert(
            "step".to_owned(),
            Value::from(words.first().cloned().unwrap_or_default()),
        );
        for word in words.iter().skip(1) {
            let (key, value) = word
                .split_once('=')
                .ok_or(format!("`{word}` in `{line}`"))?;
            let strings = [
                "format", "link", "compress", "order", "how", "by", "date", "limit", "at", "iface",
                "prefix", "what", "name",
            ];
            let value = match serde_json::from_str(value) {
                Ok(value) if !strings.contains(&key) => value,
                _ => Value::from(value),
            };
            map.insert(key.to_owned(), value);
        }
        serde_json::from_value(Value::Object(map)).map_err(|error| format!("{line}: {error}"))
    }

    /// Steps that are simpler than this one and may do as well.
    pub fn simpler(&self) -> Vec<Step> {
        let mut found = Vec::new();
        match self {
            Step::Begin(begin) => {
                let plain: [fn(&mut Begin); 15] = [
                    |b| b.place = Place::Tmpfs,
                    |b| b.metrics = false,
                    |b| {
                        (b.iface, b.prefix) = (String::new(), String::new());
                        (b.on_rotate, b.max_age_secs, b.sample) = (false, 0, 0);
                    },
                    |b| b.at = String::new(),
                    |b| b.compress = String::new(),
                    |b| b.index = true,
                    |b| b.both_families = false,
                    |b| b.only_port = 0,
                    |b| b.rotate_secs = 0,
                    |b| (b.flush_ms, b.batch, b.buffer_mib) = (100, 1024, 64),
                    |b| b.snaplen = 128,
                    |b| b.max_kib = 0,
                    |b| b.files = 0,
                    |b| b.link = "ethernet".to_owned(),
                    |b| b.format = "pcapng".to_owned(),
                ];
                for change in plain {
                    let mut simple = begin.clone();
                    change(&mut simple);
                    found.push(Step::Begin(simple));
                }
            }
            Step::Send { what, packets } if *packets > 1 => {
                for fewer in [1, packets / 8, packets / 2] {
                    found.push(Step::Send {
                        what: *what,
                        packets: fewer.max(1),
                    });
                }
            }
            Step::Wait { ms } if *ms > 1 => found.push(Step::Wait { ms: 1 }),
            _ => {}
        }
        found.retain(|step| step != self);
        found.dedup();
        found
    }
}

fn word(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    shlex::try_quote(&text).map_or(text.clone(), std::borrow::Cow::into_owned)
}

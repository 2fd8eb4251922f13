//! A capture that a step begins and ends itself, and its model.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::check::{self, Reader, figure};
use crate::messages;
use crate::model::{Ring, Run, Span, Want};
use crate::play::Play;
use crate::side::Side;
use crate::steps::{Begin, Source, Step};
use crate::traffic::{Kind, What, now};
use crate::walk::Walked;
use crate::world::{Checked, Proc, wrong};

/// Its group, which has no rule of others.
pub const GROUP: usize = 40;

/// One that runs, and its model.
pub struct Aside {
    pub proc: Proc,
    runtime: PathBuf,
    pub ring: Ring,
}

pub fn begin(play: &mut Play, step: &Side, more: &[&str], out: Option<File>) -> Checked<Aside> {
    let options = options(step);
    let name = play.name(&format!("side-{}", step.how));
    let runtime = play.world.dir.join("run").join(&name);
    fs::create_dir_all(&runtime).unwrap();
    play.fence();
    let first = play.traffic.next_number();
    let run = Run::new(&options, now(), first);
    let mut ring = Ring::new(runtime.join("ring"), ring_name(&options));
    ring.runs.push(run);
    let mut args = arguments(&options);
    args.extend(more.iter().map(|word| (*word).to_owned()));
    let mut command = play
        .world
        .lab
        .receiver()
        .command(&play.world.program)
        .unwrap();
    command.args(&args).env("RUNTIME_DIRECTORY", &runtime);
    let proc = play.world.spawn_to(&name, &mut command, out);
    let mut aside = Aside {
        proc,
        runtime,
        ring,
    };
    let begun = Instant::now();
    while !aside.proc.said().contains("lwnflog: capturing ") {
        if let Some(status) = aside.proc.ended() {
            return wrong(
                &format!("does not begin: {}", step.how),
                format!("{args:?}: {status}\n{}", aside.proc.said()),
            );
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return wrong("hangs: begin", aside.proc.said());
        }
        thread::sleep(Duration::from_millis(2));
    }
    aside.ring.runs[0].begun.to = now();
    Ok(aside)
}

/// What the model has to know of it.
pub fn options(step: &Side) -> Begin {
    let line = format!(
        "begin again=false batch=1024 both_families=true buffer_mib=16 capture=0 compress='' file_kib=2048 \
         files=0 flush_ms=50 format=pcapng index=true link=ethernet max_kib=0 only_port=0 place=tmpfs \
         rotate_secs=0 snaplen={} source={} at='{}'",
        step.snaplen,
        if step.source == Source::Hook {
            "hook"
        } else {
            "installed"
        },
        step.at,
    );
    let Ok(Step::Begin(options)) = Step::parse(&line) else {
        panic!("{line}");
    };
    options
}

pub fn ring_name(options: &Begin) -> String {
    if options.source == Source::Hook {
        crate::act::hook(options).to_owned()
    } else {
        format!("g{GROUP}")
    }
}

fn arguments(options: &Begin) -> Vec<String> {
    let mut args = if options.source == Source::Hook {
        vec!["--hook".to_owned(), crate::act::hook(options).to_owned()]
    } else {
        let group = GROUP.to_string();
        let mut args = ["--group", &group, "--install-rule", "--at"]
            .map(str::to_owned)
            .to_vec();
        args.push(crate::act::hook(options).to_owned());
        args
    };
    let snaplen = options.snaplen.to_string();
    for word in [
        "--family", "both", "--name", "side", "-B", "16MiB", "-s", &snaplen,
    ] {
        args.push(word.to_owned());
    }
    args
}

/// Some of everything that goes through the receiver.
pub fn send(play: &mut Play, packets: u64) -> BTreeMap<Kind, u64> {
    let kinds = [
        Kind::Udp,
        Kind::Beyond,
        Kind::Tcp,
        Kind::Loop,
        Kind::Udp6,
        Kind::Icmp,
        Kind::Beyond6,
        Kind::Rest,
    ];
    let mut sent = BTreeMap::new();
    for (at, kind) in (0u64..).zip(kinds) {
        let share = (packets + 7 - at) / 8;
        if share > 0 {
            let what = What {
                kind,
                port: 9000,
                from: 60,
                to: 1514,
            };
            play.traffic.send(what, share, None);
            sent.insert(kind, share);
        }
    }
    play.fence();
    sent
}

impl Aside {
    pub fn run(&mut self) -> &mut Run {
        &mut self.ring.runs[0]
    }

    /// What it has said belongs to what has happened.
    fn judge(&mut self) -> Checked {
        let said = self.proc.said();
        for line in self.proc.new_lines() {
            if let Some(why) = messages::judge(&line, &self.ring.runs[0]) {
                return wrong(
                    &format!("a false message: {}", crate::play::shape(&line)),
                    format!("{why}\nall it said:\n{said}"),
                );
            }
        }
        Ok(())
    }

    /// Everything that had to come has come, as the account on its socket has it.
    pub fn settle(&mut self, play: &mut Play) -> Checked {
        play.fence();
        let must = self.count(play, &[Want::Must]);
        let socket = self.runtime.join("side.sock");
        let begun = Instant::now();
        loop {
            let answer = crate::play::ask(
                &socket,
                &serde_json::json!({"v": 1, "command": "stats"}),
                20,
            );
            let stats = answer
                .as_ref()
                .map_or(&Value::Null, |answer| &answer["stats"]);
            if figure(stats, "/received") + check::sum(stats, "dropped") >= must {
                return Ok(());
            }
            if begun.elapsed() > crate::play::DEADLINE || self.proc.ended().is_some() {
                return wrong(
                    "not accounted for",
                    format!("{must} packets must be\n{answer:?}\n{}", self.proc.said()),
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn count(&self, play: &Play, wants: &[Want]) -> u64 {
        let run = &self.ring.runs[0];
        let chunks = play.traffic.chunks_from(run.first_number);
        chunks
            .iter()
            .filter(|chunk| wants.contains(&run.wants(chunk)))
            .map(|chunk| chunk.count)
            .sum()
    }

    /// Its end by a signal; what it leaves behind.
    pub fn end(&mut self, play: &mut Play) -> Checked {
        play.fence();
        self.run().ended = Some(Span {
            from: now(),
            to: i64::MAX,
        });
        self.proc.signal(Signal::INT);
        self.gone(play, 0)
    }

    pub fn gone(&mut self, play: &mut Play, code: i32) -> Checked {
        let status = self.proc.wait("the end of a capture", 60)?;
        if let Some(end) = &mut self.run().ended {
            end.to = now();
        }
        self.judge()?;
        if status.code() != Some(code) {
            return wrong(
                "ended otherwise than it must",
                format!("{status}, not {code}\n{}", self.proc.said()),
            );
        }
        if let Some(left) = fs::read_dir(&self.runtime)
            .into_iter()
            .flatten()
            .flatten()
            .find(|entry| entry.file_name() != "ring" && entry.path().extension().is_some())
        {
            return wrong("a socket is left", left.path().display().to_string());
        }
        play.nothing_left()
    }

    /// The figures of a report for people, as an object's.
    pub fn report(&self) -> Value {
        let mut figures = serde_json::json!({"dropped": {}, "left_out": {}});
        for line in self.proc.said().lines() {
            let Some((name, number)) = line.trim().split_once("  ") else {
                continue;
            };
            let Ok(number) = number.trim().replace(',', "").parse::<u64>() else {
                continue;
            };
            let name = name.trim().trim_start_matches("dropped:").trim();
            match name {
                "overrun" | "allocation" | "writer" => figures["dropped"][name] = number.into(),
                _ => figures[name] = number.into(),
            }
        }
        figures
    }

    /// Each packet of an output, and the account.
    pub fn check(&self, play: &mut Play, walked: &Walked, report: &Value, whole: bool) -> Checked {
        let chunks = play.traffic.chunks_from(self.ring.runs[0].first_number);
        let mut reader = Reader::new(&self.ring, &chunks);
        reader.take(walked, "beside")?;
        let records = walked.records.len() as u64;
        play.packets_checked += records;
        check::account(&self.ring, &chunks, report, true, play.traffic.is_on())?;
        let (written, dropped) = (figure(report, "/written"), check::sum(report, "dropped"));
        let told = |what: &str| format!("{what}\n{report}\n{}", self.proc.said());
        if records != written {
            return wrong(
                "written otherwise",
                told(&format!("{records} packets are there of {written}")),
            );
        }
        let missing = reader.missing(0, u64::MAX);
        if whole && missing.len() as u64 > dropped {
            return wrong("packets are missing", told(&check::runs(&missing)));
        }
        Ok(())
    }
}

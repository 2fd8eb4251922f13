//! What it takes to find packets in a ring, by `lwnflog read` and by `tcpdump -r` over the same files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lwnflog::read::chain::finished_in;
use serde_json::Value;

use crate::cli::Common;
use crate::host::{Host, version};
use crate::markdown::pipe_table;
use crate::results::Spread;
use crate::say::{say, tell};
use crate::table::{Table, digits, range};
use crate::tools;
use crate::workdir::WorkDir;

/// What is asked, of both in the same words.
struct Question {
    name: &'static str,
    lwnflog: Vec<String>,
    tcpdump: Vec<String>,
    /// Both say how many packets there are.
    counts: bool,
    /// The first file alone: printing takes tcpdump long.
    one_file: bool,
}

/// A packet of the middle file: questions are asked for the likes of it.
struct Sample {
    host: String,
    port: u64,
    time_ns: u64,
}

pub(crate) fn run(common: &Common, ring: &Path, rounds: u64) -> Result<()> {
    let lwnflog = tools::lwnflog_path(common.lwnflog.as_deref());
    let (mut files, _) = finished_in(ring);
    // tcpdump reads no others.
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "pcapng")
    });
    let (Some(first), Some(middle)) = (files.first(), files.get(files.len() / 2)) else {
        bail!("{}: no pcapng files", ring.display());
    };
    let sample = sample(&lwnflog, middle)?;
    let work = WorkDir::new(common.dir.as_deref())?;
    let list = |name: &str, files: &[PathBuf]| -> Result<PathBuf> {
        let names: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let path = work.path().join(name);
        fs::write(&path, names.join("\n") + "\n")?;
        Ok(path)
    };
    let (all, one) = (list("all", &files)?, list("one", &files[..1])?);
    let bytes: u64 = files
        .iter()
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum();
    say!("{}", Host::here(ring).line());
    say!(
        "{} files, {} MB; {}; {}\n",
        files.len(),
        digits(bytes / 1_000_000),
        version(&lwnflog, "--version"),
        version(Path::new("tcpdump"), "--version")
    );
    let mut table = Table {
        title: String::new(),
        header: vec![
            "question",
            "packets",
            "lwnflog, s",
            "tcpdump, s",
            "times as fast",
        ],
        rows: Vec::new(),
        notes: Vec::new(),
    };
    for question in questions(&sample) {
        let (place, list) = if question.one_file {
            (first.as_path(), &one)
        } else {
            (ring, &all)
        };
        let mut lwnflog = Command::new(&lwnflog);
        lwnflog.arg("read").arg(place).args(&question.lwnflog);
        let mut tcpdump = Command::new("tcpdump");
        tcpdump
            .args(["-n", "-Z", "root", "-V"])
            .arg(list)
            .args(&question.tcpdump);
        let (mut ours, mut theirs, mut packets) = (Vec::new(), Vec::new(), String::new());
        for round in 0..=rounds {
            tell!("{}, round {round} of {rounds}", question.name);
            let (mine, found) = timed(&mut lwnflog, question.counts)?;
            let (other, found_too) = timed(&mut tcpdump, question.counts)?;
            if question.counts {
                if found != found_too {
                    bail!(
                        "{}: lwnflog counts {found}, tcpdump {found_too}",
                        question.name
                    );
                }
                packets = digits(found.parse().unwrap_or(0));
            }
            // The first is the warm-up.
            if round != 0 {
                ours.push(mine);
                theirs.push(other);
            }
        }
        let ratio = Spread::of(theirs.iter().zip(&ours).map(|(other, mine)| other / mine));
        let row = [Spread::of(ours), Spread::of(theirs), ratio];
        let decimals = |spread: &Spread| if spread.median < 10.0 { 2 } else { 0 };
        let shown = row.map(|spread| {
            spread.map_or_else(String::new, |spread| range(spread, decimals(&spread)))
        });
        table
            .rows
            .push([vec![question.name.to_owned(), packets], shown.to_vec()].concat());
    }
    say!("{}", pipe_table(&table));
    Ok(())
}

fn sample(lwnflog: &Path, file: &Path) -> Result<Sample> {
    let said = Command::new(lwnflog)
        .args(["read", "--json", "-c", "1000"])
        .arg(file)
        .args(["tcp", "or", "udp"])
        .output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let packet: Value = said
        .lines()
        .next_back()
        .and_then(|line| serde_json::from_str(line).ok())
        .with_context(|| format!("{}: no packet of TCP or UDP", file.display()))?;
    Ok(Sample {
        host: packet["source"].as_str().unwrap_or_default().to_owned(),
        port: packet["destination_port"].as_u64().unwrap_or(0),
        time_ns: packet["time_ns"].as_u64().unwrap_or(0),
    })
}

fn questions(sample: &Sample) -> Vec<Question> {
    let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
    let moment = |second: u64| {
        let whole = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0));
        whole.map(|time| time.to_string()).unwrap_or_default()
    };
    let Sample {
        host,
        port,
        time_ns,
    } = sample;
    let second = time_ns / 1_000_000_000;
    let (from, to) = (moment(second.saturating_sub(30)), moment(second + 30));
    let question = |name, lwnflog: &str, tcpdump: &str| Question {
        name,
        lwnflog: words(lwnflog),
        tcpdump: words(tcpdump),
        counts: false,
        one_file: false,
    };
    let (host, port) = (format!("host {host}"), format!("port {port}"));
    vec![
        question(
            "one host in one minute, counted (tcpdump: the host at any time)",
            &format!("--count --from {from} --to {to} {host}"),
            &format!("--count {host}"),
        ),
        Question {
            counts: true,
            ..question(
                "a port, counted in a full scan",
                &format!("--no-index --count {port}"),
                &format!("--count {port}"),
            )
        },
        question(
            "a port, written from a full scan",
            &format!("--no-index -w /dev/null {port}"),
            &format!("-w /dev/null {port}"),
        ),
        question(
            "all of IPv4, written",
            "--no-index -w /dev/null ip",
            "-w /dev/null ip",
        ),
        Question {
            one_file: true,
            ..question("all of one file, printed", "--no-index ip", "ip")
        },
    ]
}

/// How long a command takes, and how many packets it says there are.
fn timed(command: &mut Command, counts: bool) -> Result<(f64, String)> {
    let stdout = if counts {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped());
    let begun = Instant::now();
    let output = command.spawn()?.wait_with_output()?;
    let took = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let number = said.split_whitespace().next().unwrap_or_default();
    Ok((took, number.to_owned()))
}

//! The newcomer's minute: `lwnflog demo` captures traffic of its own making, in namespaces of its
//! own, and says which file to open.
//!
//! It does what a user does next: its command line is read and started as any other.
//! Only the traffic and the namespaces ([`crate::lab`]) are the demo's.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;

use super::NO_THREAD;
use super::args::Cli;
use super::options::settings;
use super::report::ReportText;
use super::signals::{self, Watched};
use crate::account::report::Report;
use crate::lab::{self, Lab, RX, Traffic};
use crate::numbers::grouped;
use crate::session::settings::Settings;
use crate::session::{End, Session};

/// The thesis's frame sizes (its section 4.2), in turn.
const FRAME_BYTES: [usize; 3] = [64, 256, 1500];
/// Packets a second: any machine keeps up with it.
const RATE: u64 = 20_000;
/// One size is sent for so long.
const BURST: Duration = Duration::from_millis(100);
const BURSTS_PER_SEC: u64 = 10;
/// How long the last packets may take to reach the rule.
const ARRIVAL: Duration = Duration::from_millis(500);

/// `lwnflog demo`
///
/// Call it before the process has a second thread: [`lab::enter_user_namespace`] needs that.
///
/// # Errors
/// What keeps it from running: no right to make namespaces, a directory that cannot be written, and
/// whatever keeps a capture from running.
pub fn run(dir: &Path, secs: u64) -> Result<()> {
    lab::enter_user_namespace().context("the demo needs network namespaces of its own")?;
    let lab = Lab::new().context("the demo needs network namespaces of its own")?;
    let (interrupted, _watched) = watch_signals()?;
    let command = command_line(dir);
    let settings = settings(&Cli::try_parse_from(&command)?.capture)?;
    introduce(&lab, &command, secs)?;
    let captured = || capture(&lab, settings, secs, &interrupted);
    let (report, sent) = lab.receiver().run(captured)??;
    conclude(&report, sent)
}

/// The capture as a user would start it inside the receiving namespace.
fn command_line(dir: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["lwnflog", "--group", "5", "--install-rule", "--iface", RX]
        .map(OsString::from)
        .to_vec();
    words.extend(["-C", "64MB", "-W", "4", "-w"].map(OsString::from));
    words.push(dir.into());
    words
}

/// The first signal that ends a capture ends the demo early, a second one at once.
fn watch_signals() -> Result<(Arc<AtomicBool>, Watched)> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&interrupted);
    let note = move |signal| _ = noted.fetch_or(signals::is_ending(signal), Ordering::Relaxed);
    Ok((interrupted, signals::watch(note)?))
}

/// Captures inside the calling thread's namespace while another thread sends. Returns the report
/// and how many packets were sent.
fn capture(
    lab: &Lab,
    settings: Settings,
    secs: u64,
    interrupted: &AtomicBool,
) -> Result<(Report, u64)> {
    let mut session = Session::start(settings, &mut |_| {}, Arc::new(|| {}))?;
    let sent = thread::scope(|scope| {
        let sender = thread::Builder::new()
            .spawn_scoped(scope, || send(lab, secs, interrupted))
            .context(NO_THREAD)?;
        let mut next = Duration::from_secs(1);
        while !sender.is_finished() {
            thread::sleep(Duration::from_millis(20));
            if session.elapsed() >= next {
                show_figures(&mut session, next)?;
                next += Duration::from_secs(1);
            }
        }
        let done = sender.join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let last_sent = Instant::now();
    while session.snapshot().total.detected.is_some_and(|n| n < sent)
        && last_sent.elapsed() < ARRIVAL
    {
        thread::sleep(Duration::from_millis(10));
    }
    let End { report, error, .. } = session.finish();
    match error {
        Some(error) => Err(error).context("the capture ended early"),
        None => Ok((report, sent)),
    }
}

/// Sends for `secs` seconds, one burst of a size after the other.
fn send(lab: &Lab, secs: u64, interrupted: &AtomicBool) -> Result<u64> {
    let begun = Instant::now();
    let mut sent = 0;
    for (burst, bytes) in (0..secs * BURSTS_PER_SEC).zip(FRAME_BYTES.into_iter().cycle()) {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let due = BURST * u32::try_from(burst).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let traffic = Traffic::new(bytes, RATE / BURSTS_PER_SEC).rate(Some(RATE));
        sent += traffic.send(lab, None)?.packets;
    }
    Ok(sent)
}

fn introduce(lab: &Lab, command: &[OsString], secs: u64) -> Result<()> {
    let (tx, rx) = (lab.tx(), lab.rx());
    let command: Vec<_> = command
        .iter()
        .map(|word| shell_word(&word.to_string_lossy()))
        .collect();
    say(&format!(
        "Two network namespaces, joined by a cable; this host is not touched.\n\n  \
         [sender]  {} {} ======== {} {}  [receiver: rule, group 5, lwnflog]\n\n\
         In the receiver, for {secs} s, as this command would:\n  {}\n\
         The sender: {} packets/s of 64, 256 and 1500 bytes.\n",
        tx.name,
        tx.address,
        rx.name,
        rx.address,
        command.join(" "),
        grouped(RATE),
    ))
}

fn show_figures(session: &mut Session, elapsed: Duration) -> Result<()> {
    let figures = session.snapshot().total;
    say(&format!(
        "{:>4} s  {} written, {} dropped",
        elapsed.as_secs(),
        grouped(figures.written),
        grouped(figures.dropped.total()),
    ))
}

fn conclude(report: &Report, sent: u64) -> Result<()> {
    let file = report
        .files
        .last()
        .ok_or_else(|| anyhow!("no packet arrived, so there is no file"))?;
    let file = shell_word(&file.to_string_lossy());
    let program = std::env::args().next().unwrap_or_default();
    say(&format!(
        "\n{:>22}  {}\n{}\n\
         Open the file:\n  tshark -r {file} | head\n  wireshark {file}\n\n\
         Then this host's own packets, until Ctrl-C:\n  sudo {} --group 5 --install-rule",
        "sent",
        grouped(sent),
        ReportText(report),
        shell_word(&program),
    ))
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

/// A word as a shell takes it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("lwnflog-capture/demo"), "lwnflog-capture/demo");
        assert_eq!(shell_word("my files"), "'my files'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn the_command_shown_is_a_valid_one() {
        let cli = Cli::try_parse_from(command_line(Path::new("some where"))).unwrap();
        let settings = settings(&cli.capture).unwrap();
        assert_eq!(settings.numbers(), [5]);
        assert_eq!(settings.rule.unwrap().ifaces, [RX]);
    }
}

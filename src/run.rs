//! What the commands do: options become settings, a session runs, people and programs are told.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::cli::{CaptureArgs, FormatArg, LinkArg, SourceArgs, VerdictArg};
use crate::config::{self, ConfigError, FileFormat, Output, QueueOptions, RuleRequest, Settings};
use crate::record::LinkType;
use crate::report::{Figures, Stats, grouped};
use crate::ring::{Notice, repair as ring_repair};
use crate::rules::{RuleSpec, SpecError, Target, iptables_queue_command, table_text};
use crate::session::{Session, SessionError, disk_bound_bytes};
use crate::source::nfqueue::Verdict;

/// How often the main thread looks around.
const TICK: Duration = Duration::from_millis(50);
/// Figures are shown so often.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// A group that no rule feeds by then is said to be one.
const UNFED_AFTER: Duration = Duration::from_secs(2);

/// The exit status for an error: 2 for options, 1 for anything else.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let bad_spec = matches!(error.downcast_ref(), Some(SessionError::Spec(_)));
    if bad_spec || error.is::<ConfigError>() || error.is::<SpecError>() {
        2
    } else {
        1
    }
}

/// An error and its causes in one line. A cause that the error names already is not said twice.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for part in error.chain().map(ToString::to_string) {
        if !text.contains(&part) {
            let between = if text.is_empty() { "" } else { ": " };
            text.push_str(between);
            text.push_str(&part);
        }
    }
    text
}

/// `lwnflog --group …`
///
/// # Errors
/// Options that make no sense, and whatever keeps the capture from beginning or going on.
pub fn capture(args: &CaptureArgs) -> Result<()> {
    let settings = settings(args)?;
    run_session(settings, args.quiet, args.json)
}

/// `lwnflog rules …`
///
/// # Errors
/// Options that make no sense; standard output that cannot be written.
pub fn print_rules(
    source: &SourceArgs,
    iface: Option<&str>,
    drop: bool,
    prefix: Option<&str>,
) -> Result<()> {
    let (target, numbers) = source_numbers(source)?;
    let mut spec = RuleSpec::new(target, &numbers)?;
    if let Some(iface) = iface {
        spec = spec.with_iface(iface)?;
    }
    if drop {
        spec = spec.with_drop()?;
    }
    if let Some(prefix) = prefix {
        spec = spec.with_prefix(prefix)?;
    }
    let mut text = String::new();
    if let Some(command) = iptables_queue_command(&spec) {
        text = format!(
            "# Where the kernel has no `queue` (CONFIG_NFT_QUEUE), this does the same:\n#   {command}\n"
        );
    }
    text.push_str(&table_text(&spec));
    io::stdout()
        .write_all(text.as_bytes())
        .context("standard output")
}

/// `lwnflog repair …`
///
/// # Errors
/// The first file that could not be repaired; the others are tried all the same.
pub fn repair(files: &[PathBuf]) -> Result<()> {
    let mut failed = None;
    for file in files {
        match ring_repair::repair_unowned(file) {
            Ok(done) => println!(
                "{}: {} packets, {} bytes{}{}{}",
                file.display(),
                grouped(done.packets),
                grouped(done.bytes_after),
                match done.bytes_before - done.bytes_after {
                    0 => String::new(),
                    cut => format!(" ({} cut)", grouped(cut)),
                },
                match done.damaged_segments {
                    0 => String::new(),
                    damaged => format!(", {damaged} damaged segments covered"),
                },
                match done.orphans {
                    0 => String::new(),
                    orphans =>
                        format!(", {orphans} blocks of a device whose declaration is lost covered"),
                },
            ),
            Err(error) => {
                eprintln!("lwnflog: {}: {error}", file.display());
                failed = Some(anyhow!("not all files could be repaired"));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn source_numbers(source: &SourceArgs) -> Result<(Target, Vec<u16>), ConfigError> {
    if let Some(list) = &source.queue {
        return Ok((Target::Queue, config::parse_numbers(list, "queues")?));
    }
    let list = source.group.as_deref().unwrap_or_default();
    Ok((Target::Group, config::parse_numbers(list, "groups")?))
}

pub(crate) fn settings(args: &CaptureArgs) -> Result<Settings> {
    let (target, numbers) = source_numbers(&args.source)?;
    let output = Output {
        dir: args.write.clone(),
        file_bytes: config::parse_size(&args.file_size, 1_000_000)?,
        files: args.files,
        format: match args.format {
            FormatArg::Pcapng => FileFormat::PcapNg,
            FormatArg::Pcap => FileFormat::Pcap,
        },
    };
    let buffer_bytes = config::parse_size(&args.buffer_size, 1024)?;
    let settings = Settings {
        target,
        numbers,
        output: if args.discard {
            None
        } else {
            Some(output.check()?)
        },
        link: match args.link_type {
            LinkArg::Ethernet => LinkType::Ethernet,
            LinkArg::Ip => LinkType::Ip,
            LinkArg::Nflog => LinkType::Nflog,
        },
        snaplen: config::snaplen(args.snaplen)?,
        count: args.count,
        duration: args.duration.as_deref().map(parse_duration).transpose()?,
        rotate: args.rotate_secs.map(Duration::from_secs),
        buffer_bytes: usize::try_from(buffer_bytes).unwrap_or(usize::MAX),
        batch: args.batch,
        flush: config::flush(args.flush_ms)?,
        rule: args.install_rule.then(|| RuleRequest {
            iface: args.iface.clone(),
            drop: args.drop,
        }),
        queue: QueueOptions {
            verdict: match args.verdict {
                VerdictArg::Accept => Verdict::Accept,
                VerdictArg::Drop => Verdict::Drop,
            },
            mark: args.mark.as_deref().map(config::mark).transpose()?,
            fail_open: !args.fail_closed,
            len: args.queue_len,
        },
    };
    Ok(settings.check()?)
}

fn parse_duration(text: &str) -> Result<Duration, ConfigError> {
    let bad = || ConfigError::Duration {
        text: text.to_owned(),
    };
    let duration = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| bad())?,
        Err(_) => humantime::parse_duration(text).map_err(|_| bad())?,
    };
    if duration.is_zero() {
        Err(bad())
    } else {
        Ok(duration)
    }
}

/// Runs a capture until a signal, its count, its duration or an error ends it, and prints the report.
pub(crate) fn run_session(settings: Settings, quiet: bool, json: bool) -> Result<()> {
    // Signals are watched before anything is opened, so that none finds nobody at home.
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).context("watching signals")?;
    let handle = signals.handle();
    let (to_main, from_signals) = mpsc::channel();
    let watcher = thread::spawn(move || {
        for signal in signals.forever() {
            if to_main.send(signal).is_err() {
                break;
            }
        }
    });
    let mut session = Session::start(settings)?;
    let mut voice = Voice::new(quiet, json);
    voice.greet(&session);
    let (duration, rotate) = (session.settings().duration, session.settings().rotate);
    let (mut rotations, mut unfed_checked, mut next_figures) = (1u32, false, FIGURES_EVERY);
    loop {
        match from_signals.recv_timeout(TICK) {
            Ok(SIGHUP) => session.control().rotate(),
            Ok(SIGUSR1) => voice.figures_now(&mut session),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        for notice in session.notices() {
            voice.notice(&notice);
        }
        let elapsed = session.elapsed();
        if elapsed >= next_figures {
            next_figures = elapsed + FIGURES_EVERY;
            voice.figures(&mut session);
        }
        if let Some(every) = rotate
            && elapsed >= every * rotations
        {
            rotations += 1;
            session.control().rotate();
        }
        if !unfed_checked && elapsed >= UNFED_AFTER {
            unfed_checked = true;
            voice.unfed(&mut session);
        }
        let over = duration.is_some_and(|duration| elapsed >= duration);
        if over || session.control().count_reached() || session.has_ended() {
            break;
        }
    }
    // A second signal does not wait: files are valid as they are.
    thread::spawn(move || {
        if let Ok(SIGINT | SIGTERM) = from_signals.recv() {
            std::process::exit(130);
        }
    });
    let (report, error) = session.finish();
    handle.close();
    let _ = watcher.join();
    voice.report(&report);
    match error {
        Some(error) => Err(error).context("the capture ended early"),
        None => Ok(()),
    }
}

/// Tells people (standard error) and programs (standard output) what goes on.
struct Voice {
    quiet: bool,
    json: bool,
    status_line: bool,
    /// There is a status line on the terminal that the next line has to replace.
    line_open: bool,
    last: (Instant, u64),
}

impl Voice {
    fn new(quiet: bool, json: bool) -> Voice {
        let status_line = !quiet && io::stderr().is_terminal();
        Voice {
            quiet,
            json,
            status_line,
            line_open: false,
            last: (Instant::now(), 0),
        }
    }

    fn say(&mut self, text: &str) {
        let clear = if std::mem::take(&mut self.line_open) {
            "\r\x1b[K"
        } else {
            ""
        };
        // Nobody to tell is no reason to stop.
        let _ = writeln!(io::stderr(), "{clear}lwnflog: {text}");
    }

    fn greet(&mut self, session: &Session) {
        for recovered in session.recovered() {
            let text = match &recovered.path {
                Some(path) => format!(
                    "finished {} of a run that was killed: {} packets{}",
                    path.display(),
                    grouped(recovered.packets),
                    if recovered.damaged_segments == 0 {
                        ""
                    } else {
                        "; damaged parts were covered"
                    },
                ),
                None => "removed an empty file of a run that was killed".to_owned(),
            };
            self.say(&text);
        }
        let settings = session.settings();
        let granted = session.granted_buffer_bytes();
        if granted < settings.buffer_bytes / 2 {
            self.say(&format!(
                "the kernel granted a receive buffer of {} bytes of the {} asked for: without CAP_NET_ADMIN in the \
                 host's user namespace, net.core.rmem_max is the limit",
                grouped(granted as u64),
                grouped(settings.buffer_bytes as u64)
            ));
        }
        if self.quiet {
            return;
        }
        let numbers: Vec<_> = settings.numbers.iter().map(ToString::to_string).collect();
        let place = match &settings.output {
            None => "nowhere: packets are counted and thrown away".to_owned(),
            Some(output) => format!(
                "{}, {}",
                output.dir.display(),
                match disk_bound_bytes(settings) {
                    Some(bound) => format!("at most {} bytes", grouped(bound)),
                    None => "WITHOUT LIMIT".to_owned(),
                }
            ),
        };
        self.say(&format!(
            "capturing {} {} to {place}",
            settings.target,
            numbers.join(",")
        ));
        for feed in session.feeds() {
            self.say(&format!("fed by {feed}"));
            if feed.snaplen.is_some() || feed.queue_threshold.is_some() {
                self.say(&format!("{feed} sets a snaplen or queue-threshold of its own, which lowers ours: better leave it out"));
            }
        }
    }

    fn notice(&mut self, notice: &Notice) {
        self.say(&match notice {
            Notice::RingShrunk { files } => format!(
                "the disk is full: the ring goes on with {files} files, the oldest is overwritten early; make room"
            ),
            Notice::NoFile { error } => {
                format!("no file to write to ({error}): packets count as dropped by the writer until there is room")
            }
            Notice::FilesAgain => "there is room again: writing goes on".to_owned(),
            Notice::Finish { error } => format!("a full file could not be finished: {error}"),
        });
    }

    fn unfed(&mut self, session: &mut Session) {
        let target = session.settings().target;
        match session.unfed() {
            Ok(unfed) if unfed.is_empty() => {}
            Ok(unfed) => {
                let list: Vec<_> = unfed.iter().map(ToString::to_string).collect();
                let list = list.join(",");
                self.say(&format!(
                    "no nftables rule of this network namespace hands packets to {target} {list}: load one with \
                     `lwnflog rules --{target} {list} | nft -f -`, or use --install-rule; capture goes on"
                ));
            }
            Err(error) => self.say(&format!(
                "cannot look whether a rule feeds the capture: {error}"
            )),
        }
    }

    fn rate(&mut self, received: u64) -> f64 {
        let now = Instant::now();
        let (before, count) = std::mem::replace(&mut self.last, (now, received));
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let packets = received.saturating_sub(count) as f64;
        packets / (now - before).as_secs_f64().max(1e-6)
    }

    fn figures(&mut self, session: &mut Session) {
        if !self.json && !self.status_line {
            return;
        }
        let figures = session.figures();
        let rate = self.rate(figures.received);
        if self.json {
            self.print_json(&Stats {
                event: "stats",
                elapsed_secs: session.elapsed().as_secs_f64(),
                packets_per_sec: rate,
                total: &figures,
            });
        }
        if self.status_line {
            self.line_open = true;
            let _ = write!(io::stderr(), "\r\x1b[K{}", status(&figures, rate));
            let _ = io::stderr().flush();
        }
    }

    fn figures_now(&mut self, session: &mut Session) {
        let figures = session.figures();
        let rate = self.rate(figures.received);
        self.say(&status(&figures, rate));
    }

    fn report(&mut self, report: &crate::report::Report) {
        if std::mem::take(&mut self.line_open) {
            let _ = writeln!(io::stderr());
        }
        if self.json {
            self.print_json(report);
        }
        if !(self.json && self.quiet) {
            let _ = write!(io::stderr(), "{report}");
        }
    }

    fn print_json(&mut self, object: &impl serde::Serialize) {
        let mut line = serde_json::to_vec(object).unwrap_or_default();
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        if stdout
            .write_all(&line)
            .and_then(|()| stdout.flush())
            .is_err()
        {
            // The reader has gone; the capture has not.
            self.json = false;
            self.say("standard output is closed: no more JSON");
        }
    }
}

fn status(figures: &Figures, rate: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is not negative"
    )]
    let rate = grouped(rate.round() as u64);
    let kept = figures.written + figures.discarded;
    format!(
        "{rate} packets/s, {} {}, {} dropped, {} skipped, file {}, {} bytes",
        grouped(kept),
        if figures.discarded == 0 {
            "written"
        } else {
            "counted"
        },
        grouped(figures.dropped.total()),
        grouped(figures.skipped),
        figures.files_begun,
        grouped(figures.bytes),
    )
}

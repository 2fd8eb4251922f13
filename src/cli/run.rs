//! `lwnflog run -- COMMAND`: what one command sends and receives.
//!
//! The command runs in a cgroup of its own; a table that goes with this process selects the packets
//! of its sockets. A second process removes the cgroup once this one has ended, however that was.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::RunArgs;
use super::options::family;
use super::{NO_THREAD, complain};
use crate::account::report::Report;
use crate::format::LinkType;
use crate::nft::Spread;
use crate::numbers::grouped;
use crate::session::cgroup::{self, Cgroup};
use crate::session::settings::{
    self, CgroupRequest, FileFormat, QueueOptions, RuleRequest, Settings, SourceSettings, Stream,
};
use crate::session::{End, Session};
use crate::source::Target;
use crate::source::holder::group_holder;
use crate::source::nflog::GroupConfig;
use crate::sys::standard;

/// Exit statuses of a command that could not be started, as a shell has them.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// The end of a connection may come behind the end of its process.
const AFTERWARDS: Duration = Duration::from_millis(100);
/// The kernel gives no time to packets that are sent: each is to be read at once.
const BATCH: u32 = 1;

/// `lwnflog run …`: does not return where the command was started.
///
/// # Errors
/// What keeps the capture from beginning: then the command is not started.
pub fn run(args: &RunArgs) -> Result<()> {
    let Some(program) = args.command.first() else {
        bail!("there is no command");
    };
    let mut place = Place::of(args.write.as_deref(), Path::new(program))?;
    let cgroup = Cgroup::make().context(
        "no cgroup can be made for the command (it takes root, or a cgroup that is delegated to you)",
    )?;
    let mut after = start_after(&cgroup)?;
    let status = begin(args, &place, &cgroup).and_then(|(session, ended)| {
        wait(
            session,
            ended,
            &args.command,
            &cgroup,
            args.quiet,
            &mut place,
        )
    });
    after.end();
    drop(place);
    process::exit(status?);
}

/// `lwnflog run-in CGROUP COMMAND`: becomes the command.
///
/// # Errors
/// A cgroup that cannot be entered.
pub fn run_in(cgroup: &Path, command: &[OsString]) -> Result<()> {
    cgroup::enter(cgroup).with_context(|| format!("entering the cgroup {}", cgroup.display()))?;
    let Some((program, args)) = command.split_first() else {
        bail!("there is no command");
    };
    let error = Command::new(program).args(args).exec();
    complain(&format!("{}: {error}", Path::new(program).display()));
    process::exit(match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    });
}

/// `lwnflog run-after CGROUP`: removes the cgroup when standard input ends.
///
/// # Errors
/// A cgroup that cannot be removed.
pub fn run_after(cgroup: &Path) -> Result<()> {
    let mut nothing = Vec::new();
    let _ = io::stdin().read_to_end(&mut nothing);
    cgroup::remove(cgroup).with_context(|| format!("removing the cgroup {}", cgroup.display()))
}

/// Where packets go. A file that was made for them goes with it, where there are none.
struct Place {
    file: Option<PathBuf>,
    /// The file was made here, and is not to stay yet.
    made: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = self.file.as_ref().filter(|_| self.made) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Place {
    /// That of `-w`; else a new file that is called as the program is.
    fn of(asked: Option<&Path>, program: &Path) -> Result<Place> {
        if asked.is_some_and(|path| path.as_os_str() == "-") {
            if standard::output_was_closed() {
                return Err(settings::ConfigError::ClosedOutput.into());
            }
            return Ok(Place {
                file: None,
                made: false,
            });
        }
        let path = match asked {
            Some(path) => path.to_owned(),
            None => {
                let mut name = program.file_name().unwrap_or_default().to_owned();
                name.push(".pcapng");
                name.into()
            }
        };
        let there = path.exists();
        if there && asked.is_none() {
            bail!("{} is there already: name a file with -w", path.display());
        }
        // Before the command runs it is known that it can be written.
        let opened = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        opened.with_context(|| path.display().to_string())?;
        Ok(Place {
            file: Some(path),
            made: !there,
        })
    }

    fn format(&self) -> FileFormat {
        let extension = self.file.as_ref().and_then(|path| path.extension());
        match extension {
            Some(extension) if extension == "pcap" => FileFormat::Pcap,
            _ => FileFormat::PcapNg,
        }
    }

    fn name(&self) -> String {
        let file = self.file.as_ref();
        file.map_or("standard output".to_owned(), |path| {
            path.display().to_string()
        })
    }
}

/// The process that removes the cgroup.
struct After {
    process: Child,
    /// While it is open, it waits.
    held: Option<ChildStdin>,
}

impl After {
    fn end(&mut self) {
        drop(self.held.take());
        let _ = self.process.wait();
    }
}

fn start_after(cgroup: &Cgroup) -> Result<After> {
    let own = std::env::current_exe().context("the program's own path")?;
    let process = Command::new(own)
        .arg("run-after")
        .arg(&cgroup.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0) // the terminal's signals are not for it
        .spawn();
    match process {
        Ok(mut process) => Ok(After {
            held: process.stdin.take(),
            process,
        }),
        Err(error) => {
            let _ = cgroup::remove(&cgroup.dir);
            Err(error).context("starting the process that removes the cgroup afterwards")
        }
    }
}

/// Begins to capture.
fn begin(args: &RunArgs, place: &Place, cgroup: &Cgroup) -> Result<(Session, Receiver<()>)> {
    let (ended, end) = mpsc::channel();
    let group = free_group()?;
    let families = family(args.family);
    let defaults = GroupConfig::new(group, 0);
    let source = SourceSettings::Numbers(Target::Group, vec![group]);
    let settings = Settings {
        snaplen: settings::snaplen(args.snaplen, source.snaplen_max())?,
        source,
        family: families,
        output: None,
        stream: Some(Stream {
            format: place.format(),
            file: place.file.clone(),
        }),
        link: LinkType::RawIp,
        count: None,
        duration: None,
        rotate: None,
        buffer_bytes: defaults.buffer_bytes,
        batch: BATCH,
        flush: defaults.flush,
        rule: Some(RuleRequest {
            family: families.into(),
            ifaces: Vec::new(),
            matching: None,
            prefix: None,
            at: Vec::new(),
            spread: Spread::Cpu,
            rate_limit: None,
            drop: false,
            cgroup: Some(CgroupRequest {
                id: cgroup.id,
                level: cgroup.level,
                table: format!("lwnflog_run_{}", process::id()),
            }),
        }),
        queue: QueueOptions::default(),
        keep: None,
    };
    let wake = Arc::new(move || {
        let _ = ended.send(());
    });
    let session = Session::start(settings.check()?, &mut |_| {}, wake).context(
        "capturing what a cgroup sends and receives takes root and nftables' `socket cgroupv2` (Linux 5.13, module \
         nft_socket)",
    )?;
    Ok((session, end))
}

/// A group that nobody has.
fn free_group() -> Result<u16> {
    const FIRST: u32 = 60_000;
    const GROUPS: u32 = 5_000;
    let own = process::id() % GROUPS;
    let groups = (0..GROUPS).map(|more| FIRST + (own + more) % GROUPS);
    groups
        .filter_map(|group| u16::try_from(group).ok())
        .find(|group| group_holder(*group).is_none())
        .context("no NFLOG group from 60000 to 64999 is free")
}

/// Runs the command to its end, and says what was written. Returns its exit status.
fn wait(
    session: Session,
    capture_ended: Receiver<()>,
    command: &[OsString],
    cgroup: &Cgroup,
    quiet: bool,
    place: &mut Place,
) -> Result<i32> {
    let own = std::env::current_exe().context("the program's own path")?;
    // What is ignored (`nohup`) stays so, for the command as well.
    let ignored = ignored_signals();
    let watched = [SIGINT, SIGQUIT, SIGTERM, SIGHUP].into_iter();
    let watched = watched.filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(watched).context("watching signals")?;
    let handle = signals.handle();
    let child = Command::new(own)
        .arg("run-in")
        .arg(&cgroup.dir)
        .arg("--")
        .args(command)
        .stdout(match place.file {
            Some(_) => Stdio::inherit(),
            // There the packets are.
            None => Stdio::from(io::stderr()),
        })
        .spawn();
    let mut child = child.context("starting the command")?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let hand_on = move || {
        for signal in signals.forever() {
            let signal = match signal {
                SIGTERM => Signal::TERM,
                SIGHUP => Signal::HUP,
                // The terminal has given it to the command, too.
                _ if in_foreground() => continue,
                SIGINT => Signal::INT,
                _ => Signal::QUIT,
            };
            if let Some(pid) = pid {
                let _ = kill_process(pid, signal);
            }
        }
    };
    thread::Builder::new().spawn(hand_on).context(NO_THREAD)?;
    let status = child.wait().context("waiting for the command");
    handle.close();
    if capture_ended.try_recv().is_err() {
        thread::sleep(AFTERWARDS);
    }
    let left = cgroup::processes(&cgroup.dir);
    let End { report, error, .. } = session.finish();
    if let Some(error) = error {
        complain(&format!(
            "the capture ended before the command did: {error}"
        ));
    }
    let status = status.map(exit_status);
    let not_started = matches!(status, Ok(NOT_FOUND | NOT_EXECUTABLE));
    // It is tried again, and the file would be in the way.
    place.made &= not_started && report.total.received == 0;
    if !quiet && !place.made {
        complain(&summary(&report, place));
        if left != 0 {
            complain(&format!(
                "processes that the command has started and that go on: {left}; what they send and receive from now on \
                 is not captured, because `lwnflog run` ends with the command itself"
            ));
        }
    }
    status
}

/// Whether the terminal's signals come here.
fn in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(&terminal) == Ok(getpgrp()))
}

/// The signals that this process was started to ignore, a bit each (proc(5)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn exit_status(status: ExitStatus) -> i32 {
    const BY_SIGNAL: i32 = 128;
    let by_signal = status.signal().map(|signal| BY_SIGNAL + signal);
    status.code().or(by_signal).unwrap_or(1)
}

/// `128 packets written to curl.pcapng, 0 lost, 64 without kernel time (...)`
fn summary(report: &Report, place: &Place) -> String {
    let total = &report.total;
    let lost = match (total.detected, total.dropped.allocation) {
        (Some(_), Some(_)) => grouped(total.dropped.total()),
        _ => "unknown how many".to_owned(),
    };
    let unstamped = match total.unstamped.min(total.written) {
        0 => String::new(),
        packets => format!(
            ", {} without kernel time (sent ones have the time when they were read, usually within a millisecond)",
            grouped(packets)
        ),
    };
    format!(
        "{} packets written to {}, {lost} lost{unstamped}",
        grouped(total.written),
        place.name()
    )
}

//! One run: a fresh laboratory, one tool, one measured burst of traffic.

use crate::say::tell;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use lwnflog::lab::{self, Lab, Progress, Replay, Sent, Traffic, UserNamespace};
use lwnflog::sys::cpu::{allowed_cores, pin_before_exec};

use crate::child::{Interrupt, Tool};
use crate::cli::Common;
use crate::count::{self, Counter, Found, files_since};
use crate::job::{Job, Test};
use crate::measure::{Machine, Memory, ToolTime, wait_for_idle};
use crate::results::Run;
use crate::tools::{Contender, Detector, Invocation, Ready, Site, find};
use crate::workdir::{WorkDir, disk_usage};
use crate::{host, ready, rules, workdir};

/// Packets before the measured ones in every run: first use of code, sockets and memory.
const SHORT_WARM_UP: u64 = 100_000;
/// How long a tool may take to start.
const START_LIMIT: Duration = Duration::from_secs(15);

/// What is sent before the measured packets, where a tool writes files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WarmUp {
    /// Nothing.
    None,
    /// Enough for the first use of code, sockets and memory, and once round a ring that is recycled
    /// before its first measurement.
    Turn,
}

/// What all runs share.
pub(crate) struct Bench {
    pub(crate) interrupt: Interrupt,
    pub(crate) work: WorkDir,
    pub(crate) is_real_root: bool,
    cores: Vec<usize>,
    rate: Option<u64>,
    replay: Option<PathBuf>,
    verbose: bool,
    warm_up: WarmUp,
    /// The rings that have gone round.
    turned: RefCell<HashSet<(&'static str, Test)>>,
    next_stream: Cell<u16>,
}

impl Bench {
    /// Enters a user namespace if need be: the process must have one thread.
    pub(crate) fn new(common: &Common, replay: Option<&Path>, warm_up: WarmUp) -> Result<Self> {
        let is_real_root = lab::enter_user_namespace()? == UserNamespace::NotNeeded;
        Ok(Self {
            interrupt: Interrupt::catch()?,
            work: WorkDir::new(common.dir.as_deref())?,
            is_real_root,
            cores: allowed_cores().context("cannot find out which processors may be used")?,
            rate: common.rate,
            replay: replay.map(Path::to_owned),
            verbose: common.verbose,
            warm_up,
            turned: RefCell::default(),
            next_stream: Cell::new(0),
        })
    }

    /// Processors of the machine, which is what rules count in.
    fn cpus(&self) -> usize {
        self.cores.last().map_or(1, |last| last + 1)
    }

    pub(crate) fn host(&self) -> host::Host {
        host::Host::here(self.work.path())
    }

    /// The senders' processors, and those left to the tool: all, if none is left.
    pub(crate) fn share_cores(&self, senders: usize) -> (Vec<usize>, Vec<usize>) {
        let senders: Vec<usize> = self.cores.iter().copied().cycle().take(senders).collect();
        let mut tool: Vec<usize> = self
            .cores
            .iter()
            .copied()
            .filter(|core| !senders.contains(core))
            .collect();
        if tool.is_empty() {
            tool.clone_from(&self.cores);
        }
        (senders, tool)
    }

    /// Runs a tool once. An error is the tool's or the machine's; other tools may still work.
    pub(crate) fn run(&self, tool: &dyn Contender, job: &Job) -> Result<Run> {
        // A replayed trace has no streams that tell its packets from those of earlier runs.
        let ring = tool.recycled_ring().filter(|_| self.replay.is_none());
        let name = ring.unwrap_or(tool.id());
        let site = self.site(job, &format!("{name}-{}", job.test.name()))?;
        let result = self.run_at(tool, &site, ring);
        if ring.is_some() {
            // Its next run finds the ring as its last one left it, but written back.
            sync_files(&site.dir);
        } else {
            // The others make every file anew.
            site.remove_captures()?;
        }
        result
    }

    /// A place for a tool, with a directory of this name for its captures.
    pub(crate) fn site<'a>(&self, job: &'a Job, name: &str) -> Result<Site<'a>> {
        Ok(Site {
            job,
            dir: self.work.subdir(name)?,
            scratch: self.work.subdir("scratch")?,
            cpus: self.cpus(),
        })
    }

    /// A tool's command line as people are shown it; empty if it has none.
    pub(crate) fn command_line(&self, tool: &dyn Contender, job: &Job) -> String {
        let site = Site {
            job,
            dir: "DIR".into(),
            scratch: self.work.path().to_owned(),
            cpus: self.cpus(),
        };
        match tool.invocation(&site) {
            Ok(Some(invocation)) => invocation.shown(&site.dir),
            _ => String::new(),
        }
    }

    fn run_at(
        &self,
        tool: &dyn Contender,
        site: &Site<'_>,
        ring: Option<&'static str>,
    ) -> Result<Run> {
        let job = site.job;
        let lab = Lab::new()?;
        rules::load(lab.receiver(), &tool.rules(site)?)?;
        self.prepare(&lab, tool, site)?;
        let started_at = SystemTime::now();
        let (sender_cores, tool_cores) = self.share_cores(job.senders);
        let child = self.start(&lab, tool, site, &tool_cores)?;
        if job.test.writes() {
            touch_memory(job.file_bytes(SHORT_WARM_UP));
        }
        let warm_up = self.warm_up(&lab, tool, site, ring, &sender_cores)?;
        let wait_settled = || -> Result<()> {
            self.interrupt.sleep(tool.delay())?;
            child
                .as_ref()
                .map_or(Ok(()), |child| wait_for_idle(child.pid(), &self.interrupt))
        };
        if let Some(child) = child.as_ref().filter(|_| warm_up > 0) {
            // What the kernel still holds of the warm-up is little: it need not be waited for.
            wait_for_idle(child.pid(), &self.interrupt)?;
        }

        let pid = child.as_ref().map(Tool::pid);
        let detected_before = detected(&lab, tool.hook().detector())?;
        let tool_before = pid.map(ToolTime::of).unwrap_or_default();
        let machine_before = Machine::now()?;
        let stream = self.streams(job.senders);
        let sent = self.send(&lab, job, job.packets, stream, &sender_cores)?;
        wait_settled()?;
        let busy = Machine::now()?.busy_since(&machine_before);
        let tool_use = pid
            .map(ToolTime::of)
            .unwrap_or_default()
            .since(&tool_before);
        let detected = detected(&lab, tool.hook().detector())? - detected_before;
        let memory = pid.map(Memory::of).unwrap_or_default();

        let mut run = Run {
            sent: sent.packets,
            send_secs: sent.elapsed.as_secs_f64(),
            detected,
            written: None,
            duplicates: 0,
            reordered: 0,
            tool: tool_use,
            busy_ns: busy.as_nanos() as f64,
            memory,
            disk_bytes: 0,
            warm_up_lost: Some(0),
            claim: crate::tools::Claim::default(),
            complaints: Vec::new(),
        };
        let Some(mut child) = child else {
            run.written = Some(detected); // capacity: counted is all there is
            return Ok(run);
        };
        if let Some(status) = child.ended()? {
            run.complaints.push(format!(
                "it ended by itself ({status}): {}",
                child.said().tail()
            ));
        }
        child.stop(&self.interrupt)?;
        let said = child.said();
        if self.verbose {
            tell!("{}", said.all().trim());
        }
        run.claim = tool.claim(&said);
        if job.test.writes() {
            let (warmed, found) = count(&site.dir, started_at, stream, job.senders);
            run.warm_up_lost =
                (warm_up <= SHORT_WARM_UP).then(|| warm_up.saturating_sub(warmed.written));
            run.disk_bytes = disk_usage(&site.dir);
            run.written = Some(if self.replay.is_some() {
                found.records
            } else {
                found.written
            });
            (run.duplicates, run.reordered) = (found.duplicates, found.reordered);
            run.complaints.extend(found.errors);
        } else {
            run.written = run.claim.captured;
        }
        Ok(run)
    }

    /// Runs the commands that a tool needs before it starts.
    pub(crate) fn prepare(&self, lab: &Lab, tool: &dyn Contender, site: &Site<'_>) -> Result<()> {
        for step in tool.prepare() {
            let output = self.command(lab, &step)?.output().with_context(|| {
                format!(
                    "cannot start {}: is its package installed?",
                    step.program.display()
                )
            })?;
            if !output.status.success() {
                bail!(
                    "{}: {}",
                    step.shown(&site.dir),
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        Ok(())
    }

    /// Starts a tool, if there is one to start, and waits until packets reach it.
    pub(crate) fn start(
        &self,
        lab: &Lab,
        tool: &dyn Contender,
        site: &Site<'_>,
        cores: &[usize],
    ) -> Result<Option<Tool>> {
        let Some(invocation) = tool.invocation(site)? else {
            return Ok(None);
        };
        let mut command = self.command(lab, &invocation)?;
        pin_before_exec(&mut command, cores).context("cannot choose processors")?;
        let mut child = Tool::start(command, &site.scratch)?;
        self.wait_until_ready(lab, tool.ready(site), &mut child)?;
        Ok(Some(child))
    }

    /// A program to be started in the receiving namespace.
    fn command(&self, lab: &Lab, invocation: &Invocation) -> Result<Command> {
        let program = find(&invocation.program).unwrap_or_else(|| invocation.program.clone());
        let mut command = lab.receiver().command(program)?;
        command.args(&invocation.args);
        Ok(command)
    }

    /// Sends what makes the measured packets no tool's first; none where the tool's own count,
    /// which would include them, is all there is.
    fn warm_up(
        &self,
        lab: &Lab,
        tool: &dyn Contender,
        site: &Site<'_>,
        ring: Option<&'static str>,
        cores: &[usize],
    ) -> Result<u64> {
        let job = site.job;
        if !job.test.writes()
            || self.warm_up == WarmUp::None
            || self.replay.is_some()
            || tool.program().is_none()
        {
            return Ok(0);
        }
        let is_first = |ring| self.turned.borrow_mut().insert((ring, job.test));
        let packets = match ring.is_some_and(is_first) {
            true => job.ring.one_turn(job.captured_len()),
            false => SHORT_WARM_UP.min(job.packets),
        };
        let stream = self.streams(job.senders);
        Ok(self.send(lab, job, packets, stream, cores)?.packets)
    }

    /// Numbers for the streams of some senders that no earlier packet has.
    fn streams(&self, senders: usize) -> u16 {
        let first = self.next_stream.get();
        let count = u16::try_from(senders).unwrap_or(u16::MAX);
        self.next_stream.set(first.wrapping_add(count));
        first
    }

    fn send(
        &self,
        lab: &Lab,
        job: &Job,
        packets: u64,
        stream: u16,
        cores: &[usize],
    ) -> Result<Sent> {
        let progress = Progress::default();
        let replay = match &self.replay {
            Some(path) => Some(Replay::open(path, lab, 1500)?),
            None => None,
        };
        let traffic = Traffic::new(job.frame_len, packets)
            .rate(self.rate)
            .stream(stream);
        let rate = self.rate;
        let send = || match &replay {
            Some(replay) => replay.send(lab, packets, cores.first().copied(), rate, &progress),
            None => traffic.send_from(lab, cores, &progress),
        };
        let sent = thread::scope(|scope| -> Result<Sent> {
            let sender = scope.spawn(send);
            while !sender.is_finished() {
                if self.interrupt.happened() {
                    progress.stop();
                }
                thread::sleep(Duration::from_millis(5));
            }
            let sent = sender
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(sent)
        })?;
        self.interrupt.check()?;
        Ok(sent)
    }

    /// Waits until packets reach the tool.
    fn wait_until_ready(&self, lab: &Lab, ready: Ready, child: &mut Tool) -> Result<()> {
        let is_ready = || {
            if let Some(status) = child.ended()? {
                bail!("it ended at once ({status}): {}", child.said().tail());
            }
            ready::is_ready(lab, ready, child)
        };
        if !self.interrupt.wait_until(START_LIMIT, is_ready)? {
            bail!("it did not start to capture: {}", child.said().tail());
        }
        Ok(())
    }
}

/// What is there of the warm-up, whose streams come first, and of the measured packets.
fn count(dir: &Path, since: SystemTime, stream: u16, senders: usize) -> (Found, Found) {
    let before = stream.wrapping_sub(u16::try_from(senders).unwrap_or(u16::MAX));
    let mut counters = [Counter::new(before, senders), Counter::new(stream, senders)];
    for file in files_since(dir, since) {
        count::read(&file, &mut counters);
    }
    let [warmed, found] = counters.map(Counter::finish);
    (warmed, found)
}

fn detected(lab: &Lab, detector: Detector) -> Result<u64> {
    Ok(match detector {
        Detector::Rule => rules::detected(lab.receiver())?,
        Detector::Interface => lab.receiver_stats()?.rx_packets,
    })
}

/// Has the machine back as much memory as the files will take.
///
/// A virtual machine's memory that was never used, or was given back to the host, costs five to ten
/// times as much at first touch, whoever touches it: which tool that is must not be chance.
fn touch_memory(bytes: u64) {
    const PAGE: usize = 4096;
    let mut memory = vec![0u8; usize::try_from(bytes).unwrap_or(0)];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

/// Writes a directory's files back, so that it does not happen in the next measurement.
fn sync_files(dir: &Path) {
    for file in workdir::files(dir)
        .into_iter()
        .filter_map(|(path, _)| File::open(path).ok())
    {
        // What cannot be written back only disturbs the next run a little.
        let _ = file.sync_data();
    }
}

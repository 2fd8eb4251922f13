//! A capture tool as a child process: started inside a namespace, watched, stopped, never left
//! behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Ctrl-C and SIGTERM, noticed instead of obeyed at once, so that everything is cleaned up.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .context("cannot catch signals")?;
        }
        Ok(Self(flag))
    }

    pub(crate) fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.happened() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits a while, less when interrupted.
    pub(crate) fn sleep(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            match end.checked_duration_since(Instant::now()) {
                None | Some(Duration::ZERO) => return Ok(()),
                Some(left) => thread::sleep(left.min(POLL)),
            }
        }
    }

    /// Waits until `condition` holds; false when it did not within `limit`.
    pub(crate) fn wait_until(
        &self,
        limit: Duration,
        mut condition: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        let end = Instant::now() + limit;
        while !condition()? {
            if Instant::now() >= end {
                return Ok(false);
            }
            self.sleep(POLL)?;
        }
        Ok(true)
    }
}

/// What a tool has said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Both outputs, for looking for something.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// The last lines of either, for an error message.
    pub(crate) fn tail(&self) -> String {
        let all = self.all();
        let lines: Vec<_> = all.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }
}

/// A running tool; killed when dropped.
#[derive(Debug)]
pub(crate) struct Tool {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

impl Tool {
    /// Starts `command`, its output going to files in `scratch`.
    ///
    /// Call it on the main thread: the kernel kills the tool when the thread that started it ends.
    pub(crate) fn start(mut command: Command, scratch: &Path) -> Result<Self> {
        let (stdout, stderr) = (scratch.join("stdout"), scratch.join("stderr"));
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot make {}", path.display()))
        };
        command
            .stdin(Stdio::null())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Self {
            child,
            stdout,
            stderr,
            ended: None,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context("cannot wait for the tool")?;
        }
        Ok(self.ended)
    }

    pub(crate) fn said(&self) -> Said {
        let read = |path| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned());
        Said {
            stdout: read(&self.stdout).unwrap_or_default(),
            stderr: read(&self.stderr).unwrap_or_default(),
        }
    }

    /// Asks it to end as Ctrl-C would, and waits for that; kills it if it takes too long.
    pub(crate) fn stop(&mut self, interrupt: &Interrupt) -> Result<ExitStatus> {
        const PATIENCE: Duration = Duration::from_secs(20);
        self.signal(Signal::INT)?;
        if !interrupt.wait_until(PATIENCE, || Ok(self.ended()?.is_some()))? {
            self.kill();
            bail!(
                "the tool did not end within {} seconds of SIGINT",
                PATIENCE.as_secs()
            );
        }
        self.ended()?.context("the tool has not ended")
    }

    /// Sends a signal, unless it has ended already.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("the tool has no process id")?;
        kill_process(pid, signal).context("cannot signal the tool")
    }

    fn kill(&mut self) {
        // Either fails only when it has ended, which is what is wanted.
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
        }
    }
}

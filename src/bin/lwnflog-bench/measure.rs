//! Processor time and memory: of a tool, of its threads, of the whole machine.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lwnflog::sys::cpu::process_time;
use serde::{Deserialize, Serialize};

use crate::child::Interrupt;

/// What `/proc` counts processor time in (USER_HZ, fixed by the kernel's ABI).
const TICK: Duration = Duration::from_millis(10);

/// A tool's use of the processor up to a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolTime {
    /// All of its processes and threads: exact.
    total: Duration,
    /// The same as user and system time: in ticks, good for a ratio.
    user: Duration,
    system: Duration,
    /// By thread name: exact.
    threads: Vec<(String, Duration)>,
}

impl ToolTime {
    /// Reads the time of a process and all that descend from it.
    pub(crate) fn of(pid: u32) -> Self {
        let mut time = Self::default();
        let mut processes = vec![pid];
        while let Some(pid) = processes.pop() {
            time.total += process_time(pid).unwrap_or_default();
            if let Some([user, system, child_user, child_system]) = stat_times(pid) {
                time.user += user + child_user;
                time.system += system + child_system;
                time.total += child_user + child_system;
            }
            for thread in thread_ids(pid) {
                let task = format!("/proc/{pid}/task/{thread}");
                let children = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
                processes.extend(
                    children
                        .split_whitespace()
                        .filter_map(|id| id.parse::<u32>().ok()),
                );
                let name = fs::read_to_string(format!("{task}/comm")).unwrap_or_default();
                if let Some(used) = schedstat(&task) {
                    time.threads.push((name.trim().to_owned(), used));
                }
            }
        }
        time
    }

    /// What was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> ToolUse {
        let total = self.total.saturating_sub(before.total);
        let user = self.user.saturating_sub(before.user).as_secs_f64();
        let system = self.system.saturating_sub(before.system).as_secs_f64();
        // Too little for a single tick: then all of it is called system time.
        let share = if user + system > 0.0 {
            user / (user + system)
        } else {
            0.0
        };
        let mut threads: Vec<(String, Duration)> = Vec::new();
        for (name, used) in &self.threads {
            match threads.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += *used,
                None => threads.push((name.clone(), *used)),
            }
        }
        for (name, used) in &before.threads {
            if let Some((_, sum)) = threads.iter_mut().find(|(known, _)| known == name) {
                *sum = sum.saturating_sub(*used);
            }
        }
        let user_ns = total.as_nanos() as f64 * share;
        ToolUse {
            user_ns,
            system_ns: total.as_nanos() as f64 - user_ns,
            threads: threads
                .into_iter()
                .map(|(name, used)| (name, used.as_nanos() as f64))
                .collect(),
        }
    }
}

/// A tool's use of the processor in a period.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ToolUse {
    pub(crate) user_ns: f64,
    pub(crate) system_ns: f64,
    pub(crate) threads: Vec<(String, f64)>,
}

impl ToolUse {
    pub(crate) fn total_ns(&self) -> f64 {
        self.user_ns + self.system_ns
    }

    /// The sum over threads whose name begins so.
    pub(crate) fn threads_ns(&self, prefix: &str) -> f64 {
        let used = self
            .threads
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        used.fold(0.0, |sum, (_, used)| sum + used) // an empty `sum` would be -0
    }
}

/// utime, stime, cutime, cstime: after the program's name, which may contain anything.
fn stat_times(pid: u32) -> Option<[Duration; 4]> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let ticks: Vec<u32> = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, system, child_user, child_system] = ticks[..] else {
        return None;
    };
    Some([
        TICK * user,
        TICK * system,
        TICK * child_user,
        TICK * child_system,
    ])
}

fn thread_ids(pid: u32) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| task.file_name().into_string().ok())
        .collect()
}

/// Nanoseconds on a processor: the first figure of `schedstat`.
fn schedstat(task: &str) -> Option<Duration> {
    let text = fs::read_to_string(format!("{task}/schedstat")).ok()?;
    Some(Duration::from_nanos(
        text.split_whitespace().next()?.parse().ok()?,
    ))
}

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Its own: heap and stacks.
    pub(crate) own: u64,
    /// Mapped: of files, and shared with the kernel.
    pub(crate) mapped: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kilobytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let bytes = |key| kilobytes(key).unwrap_or(0) * 1024;
        Self {
            own: bytes("RssAnon:"),
            mapped: bytes("RssFile:") + bytes("RssShmem:"),
        }
    }
}

/// The machine's clock and the time its processors have not been idle.
///
/// Busy is what is not idle: the kernel counts idle time to the microsecond, and everything else
/// (interrupts, soft interrupts, kernel threads) only by samples at each timer tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    at: Instant,
    not_busy: Duration,
    processors: u32,
}

impl Machine {
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let at = Instant::now();
        Self::parse(&text, at).context("cannot understand /proc/stat")
    }

    fn parse(text: &str, at: Instant) -> Option<Self> {
        let (sum, each) = text.split_once('\n')?;
        // user nice system idle iowait irq softirq steal: what the host took away is not busy.
        let ticks: Vec<u32> = sum
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        let not_busy = TICK * (ticks.get(3)? + ticks.get(4)? + ticks.get(7)?);
        let processors = each.lines().filter(|line| line.starts_with("cpu")).count();
        Some(Self {
            at,
            not_busy,
            processors: u32::try_from(processors).ok()?,
        })
    }

    /// How long the processors were busy in sum since `before`.
    pub(crate) fn busy_since(&self, before: &Self) -> Duration {
        let all = (self.at - before.at) * self.processors;
        all.saturating_sub(self.not_busy.saturating_sub(before.not_busy))
    }
}

/// Waits until a tool has nothing left to do, or some seconds have passed.
pub(crate) fn wait_for_idle(pid: u32, interrupt: &Interrupt) -> Result<()> {
    const WINDOW: Duration = Duration::from_millis(100);
    /// Tools that poll use a little even when idle.
    const QUIET: Duration = Duration::from_millis(3);
    const WINDOWS: u32 = 100;
    let mut quiet = 0;
    let mut last = process_time(pid).unwrap_or_default();
    for _ in 0..WINDOWS {
        interrupt.sleep(WINDOW)?;
        let now = process_time(pid).unwrap_or(last);
        quiet = if now.saturating_sub(last) < QUIET {
            quiet + 1
        } else {
            0
        };
        if quiet == 2 {
            break;
        }
        last = now;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_subtracted() {
        let start = Instant::now();
        let text = |idle| format!("cpu  1 2 3 {idle} 10 5 6 7 0 0\ncpu0 1\ncpu1 1\nintr 5\n");
        let before = Machine::parse(&text(100), start).unwrap();
        let after = Machine::parse(&text(150), start + Duration::from_secs(1)).unwrap();
        assert_eq!(after.busy_since(&before), Duration::from_millis(1500));
        assert!(Machine::parse("", start).is_none());
    }

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let before = ToolTime::of(pid);
        let mut sum = 0u64;
        for n in 0..20_000_000u64 {
            sum = std::hint::black_box(sum ^ n);
        }
        let used = ToolTime::of(pid).since(&before);
        assert!(used.total_ns() > 1e6, "{used:?}");
        assert!(used.threads_ns("") > 1e6, "{used:?}");
        assert!(Memory::of(pid).own > 0);
    }
}

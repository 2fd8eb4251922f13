//! One capture from beginning to end: rings, rules and sources opened in the right order, a thread
//! for each source, the figures while it runs, the report at the end.

pub mod cgroup;
mod files;
mod fill;
mod finish;
pub mod keep;
mod keeper;
mod kept;
mod losses;
mod open;
pub mod orders;
mod rule;
pub mod settings;
mod spawn;
mod times;
mod trigger;
mod watch;

pub use files::disk_bound_bytes;
pub use finish::End;
pub use rule::{real_name, spec as rule_spec};

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::account::counters::{Bounds, Watch};
use crate::account::drops::Drops;
use crate::account::snapshot::{Figures, Lost, Snapshot};
use crate::account::unseen::Unseen;
use crate::account::{Account, Tally};
use crate::capture::{Command, Control, Outcome};
use crate::nft::{self, InstalledTable, MatchError, RuleError, SpecError};
use crate::numbers::grouped;
use crate::ring::{Notice, StoreError};
use crate::session::settings::{Settings, SourceSettings};
use crate::source::hook::HookError;
use crate::source::nfqueue::LastStatus;
use crate::source::{SourceError, SourceName};
use crate::sys::{capabilities, netlink};
use files::keeper;
use fill::FillWatch;
use keeper::Keeper;
use losses::{BeyondRate, WithoutRing, look_for_unseen};
use open::{Opened, open_rings, open_sources};
use trigger::Trigger;
use watch::LinkWatch;

/// Why a capture cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The group or queue cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The program at the hook cannot be had.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The ring cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rule cannot be installed.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The rule asked for makes no sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The packets to select cannot be told.
    #[error(transparent)]
    Match(#[from] MatchError),
    /// No thread could be started.
    #[error(
        "cannot start a capturing thread: {0}; raise the limit of processes and threads (`ulimit -u`, the cgroup's \
         pids.max)"
    )]
    Thread(io::Error),
}

/// What a start is about.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// The first file of each ring is made ready.
    Files(&'a Settings),
    /// Groups are bound, the rules that log to them are read.
    Rules,
    /// A rule is installed.
    Install,
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Files(
                settings @ Settings {
                    output: Some(output),
                    ..
                },
            ) => write!(
                f,
                "making the first of the files ready, {} of {} bytes each in {}",
                settings.names().len(),
                grouped(output.file_bytes),
                output.dir.display()
            ),
            Step::Files(_) => f.write_str("beginning"),
            Step::Rules => f.write_str("reading the rules"),
            Step::Install => f.write_str("installing the rule"),
        }
    }
}

/// A capturing thread and what it publishes.
struct Running {
    name: SourceName,
    account: Arc<Account>,
    thread: JoinHandle<Option<Outcome>>,
    granted_buffer_bytes: usize,
    /// Where a queue leaves the kernel's figures at its end; none for a group.
    queue_status: Option<LastStatus>,
    /// A group's or queue's, to look at.
    socket: Option<OwnedFd>,
    unseen: Unseen,
}

/// Called when there may be something to look at.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Tells of a thread's end, a panic included.
struct OnEnd(Wake);

impl Drop for OnEnd {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A running capture.
pub struct Session {
    settings: Settings,
    control: Arc<Control>,
    running: Vec<Running>,
    /// The counters of all groups together: known also where groups share one. None of a hook.
    watch: Option<Watch>,
    /// Of an installed rule with a rate limit.
    beyond_rate: Option<BeyondRate>,
    /// Of groups: whether their batches collapse.
    fill: Option<FillWatch>,
    installed: Option<InstalledTable>,
    /// Of a program at the hook.
    priority: Option<i32>,
    notices: Receiver<Notice>,
    begun: Instant,
    drops: Drops,
    /// Says when interfaces change; none where the system does not.
    changes: Option<LinkWatch>,
    paused: bool,
    /// Of a capture that writes.
    keeper: Option<Keeper>,
    trigger: Option<Trigger>,
    /// When that had something kept last.
    triggered: Option<Instant>,
    /// Of a hook: what was said of packets that no ring has taken.
    without_ring: WithoutRing,
    /// Notices that came while something else was waited for.
    told: Vec<Notice>,
    /// Told when a capturing thread ends.
    wake: Wake,
}

impl Session {
    /// Opens everything and starts capturing. What is there when it returns captures.
    ///
    /// Rings come first, so that no packet waits for a disk; then the groups; a rule to install
    /// comes last, so that its counter counts nothing that no group was bound for. Only when
    /// nothing can fail any more are files touched that were there before ([`Ring::take_over`]).
    /// `step` is told what is done, before it is; `wake` is called when the capture may have ended by
    /// itself, from any thread.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is left behind then, and the rings are as they were.
    pub fn start(
        settings: Settings,
        step: &mut dyn FnMut(Step<'_>),
        wake: Wake,
    ) -> Result<Session, SessionError> {
        // The rule's counter is to be read before the capture ends.
        let control = Arc::new(Control::watched(settings.count));
        let told = Arc::clone(&wake);
        control.when_end_due(Box::new(move || told()));
        let (notices_to, notices) = mpsc::channel();
        step(Step::Files(&settings));
        let rings = open_rings(&settings, &notices_to)?;

        step(Step::Rules);
        // A rule of our own needs no look at all the others.
        let mut watch = match (&settings.source, &settings.rule) {
            (SourceSettings::Numbers(target, numbers), Some(request)) => {
                let table = (request.family, request.table(*target, numbers));
                Some(Watch::of_own_table(*target, numbers, table))
            }
            (SourceSettings::Numbers(target, numbers), None) => {
                Some(Watch::before_bind(*target, numbers))
            }
            (SourceSettings::Hook(_), _) => None,
        };
        let sources = open_sources(&settings)?;
        let priority = sources.iter().find_map(|(_, source)| match source {
            Opened::Hook(hook) => Some(hook.priority()),
            Opened::Group(_) | Opened::Queue(_) => None,
        });
        let keep = settings.keep.as_ref();
        let trigger = keep.map(|keep| Trigger::start(keep, Arc::clone(&wake)));
        let trigger = trigger.transpose()?;
        if let Some(watch) = &mut watch {
            watch.after_bind();
        } else {
            // Loaded and attached: neither this thread nor one that it starts needs them again.
            let _ = capabilities::give_up();
        }
        let changes = LinkWatch::start(Arc::clone(&wake)).ok();
        let drops = Drops::begin();
        step(Step::Install);
        let installed = match (&settings.source, &settings.rule) {
            (SourceSettings::Numbers(target, numbers), Some(request)) => {
                Some(nft::install(&rule::spec(*target, numbers, request, true)?)?)
            }
            _ => None,
        };
        if let Some(watch) = watch.as_mut().filter(|_| installed.is_some()) {
            // Found while the rules are there: the end takes them away, and leaves the counters.
            watch.installed()?;
        }

        let keeper = keeper(&settings);
        let fill = FillWatch::of(&settings.source);
        let beyond_rate = BeyondRate::of(&settings);
        let mut session = Session {
            settings,
            control,
            running: Vec::new(),
            fill,
            beyond_rate,
            watch,
            installed,
            priority,
            notices,
            begun: Instant::now(),
            drops,
            changes,
            paused: false,
            keeper,
            trigger,
            triggered: None,
            without_ring: WithoutRing::default(),
            told: Vec::new(),
            wake,
        };
        // The threads wait until all of them are there.
        let mut gates = Vec::new();
        for ((name, source), ring) in sources.into_iter().zip(rings) {
            let (gate, opened) = mpsc::channel();
            let running = session
                .spawn(name, source, ring, opened)
                .map_err(SessionError::Thread)?;
            session.running.push(running);
            gates.push(gate);
        }
        session.look_at_links(); // all that there are
        for gate in gates {
            let _ = gate.send(());
        }
        Ok(session)
    }

    /// Goes on to the next file of each ring, where the live one holds packets.
    pub fn rotate(&self) {
        self.control.ask(Command::Rotate);
    }

    /// What stops it.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the program stands among what else is at its hook.
    pub fn priority(&self) -> Option<i32> {
        self.priority
    }

    /// The smallest receive buffer granted, as it is now; of a hook, its rings in sum.
    pub fn granted_buffer_bytes(&self) -> usize {
        let granted = |running: &Running| {
            let socket = running.socket.as_ref();
            let now = socket.and_then(|socket| netlink::receive_buffer(socket.as_fd()).ok());
            now.unwrap_or(running.granted_buffer_bytes)
        };
        self.running.iter().map(granted).min().unwrap_or(0)
    }

    /// Whether that is less than was asked for. (The kernel counts in pairs of bytes; a hook's rings are
    /// powers of two.)
    pub fn has_smaller_buffer(&self) -> bool {
        let (granted, asked) = (self.granted_buffer_bytes(), self.settings.buffer_bytes);
        match self.settings.source {
            SourceSettings::Numbers(..) => granted.saturating_add(1) < asked,
            SourceSettings::Hook(_) => granted < asked / 2,
        }
    }

    /// Tells the capturing threads which interfaces have come, gone or changed, without waiting. Whether
    /// any has.
    pub fn look_at_links(&mut self) -> bool {
        let changes = self.changes.as_ref().map_or(Vec::new(), LinkWatch::take);
        let any = !changes.is_empty();
        if any {
            self.drops.note(&changes);
            self.control.ask(Command::Links(changes.into()));
        }
        any
    }

    /// The interfaces captured, by the names that were given; none is all.
    pub fn interfaces(&self) -> Vec<String> {
        self.changeable().interfaces
    }

    /// Packets lost before they came to the hook, so far.
    pub fn before_hook(&mut self) -> u64 {
        self.drops.since()
    }

    /// How long it has been running.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether it is to be finished: as many packets are recorded as were asked for, there is nothing to
    /// write to any more, or a capturing thread has ended by itself, with an error.
    pub fn is_over(&self) -> bool {
        let has_ended = |running: &Running| running.thread.is_finished();
        self.control.count_reached() || self.control.end_due() || self.running.iter().any(has_ended)
    }

    /// The groups or queues that no rule logs to, as the rules were read last.
    pub fn without_rule(&self) -> Vec<u16> {
        self.watch.as_ref().map_or(Vec::new(), Watch::without_rule)
    }

    /// The group of `--keep-on`, where no rule logged to it at the start.
    pub fn trigger_without_rule(&self) -> Option<u16> {
        self.trigger.as_ref().and_then(Trigger::without_rule)
    }

    /// Why nothing could be kept for `--keep-on`, as it is now.
    pub fn cannot_keep(&self) -> Option<String> {
        self.trigger.as_ref()?;
        self.keeper.as_ref()?.check().err()
    }

    /// Looks at the rules and their counters, so that one that comes or goes is noticed.
    pub fn look_at_rules(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.refresh();
            look_for_unseen(watch, &mut self.running, self.settings.flush);
        }
    }

    /// The rules that log to the capture, as they were read last.
    pub fn rules(&self) -> &[nft::LoggingRule] {
        self.watch.as_ref().map_or(&[], Watch::rules)
    }

    /// Packets received so far.
    pub fn received(&self) -> u64 {
        let accounts = self.running.iter().map(|running| running.account.read());
        accounts.map(|tally| tally.received).sum()
    }

    /// The figures of this moment.
    pub fn snapshot(&mut self) -> Snapshot {
        let elapsed = self.begun.elapsed();
        let running = self.running.iter();
        let tallies: Vec<_> = running.map(|running| running.account.read()).collect();
        self.look_at_rules();
        let (mut sum, mut sources, mut lost) = (Tally::default(), Vec::new(), Lost::none());
        for (running, tally) in self.running.iter().zip(tallies) {
            sum += tally;
            sources.push(match running.name {
                SourceName::Number(target, number) => {
                    let of_this = Lost::of(running, target, &self.settings);
                    lost = lost.plus(of_this);
                    let detected = self.counted(&[number]);
                    Figures::running(Some(number), &tally, detected, of_this)
                }
                SourceName::Hook(hook) => Figures::of_hook(&tally).named(hook),
            });
        }
        let total = match &self.settings.source {
            SourceSettings::Hook(_) => Figures::of_hook(&sum),
            SourceSettings::Numbers(_, numbers) => {
                Figures::running(None, &sum, self.counted(numbers), lost)
            }
        };
        let mut total = Figures {
            beyond_rate: self.beyond_rate.as_mut().and_then(BeyondRate::look),
            ..total
        };
        if self.settings.stream.is_some() {
            total.unread = Some(sum.unread);
            // A stream has one source.
            sources.iter_mut().for_each(|one| one.unread = total.unread);
        }
        Snapshot {
            elapsed,
            sources,
            total,
        }
    }

    /// What the rules have counted for these numbers, as they were read last.
    fn counted(&self, numbers: &[u16]) -> Option<Bounds> {
        self.watch.as_ref()?.counted(numbers)
    }
}

/// A session that is dropped without `finish` ends all the same: its threads detach, take what is
/// left and end the files.
impl Drop for Session {
    fn drop(&mut self) {
        self.control.stop();
        for running in self.running.drain(..) {
            let _ = running.thread.join();
        }
    }
}

//! One capture from beginning to end: rings, rules and sources opened in the right order, a thread
//! for each source, the figures while it runs, the report at the end.

mod drops;
mod files;

pub use files::disk_bound_bytes;

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::account::{Account, Tally};
use crate::capture::{Capture, Control, Outcome, Writer};
use crate::config::{FileFormat, Settings};
use crate::detected::{Bounds, Watch};
use crate::record::Format;
use crate::record::pcap::Pcap;
use crate::report::{Figures, Report};
use crate::ring::store::Recovered;
use crate::ring::swapper::Notices;
use crate::ring::{Notice, Ring, Store, StoreError, check_space};
use crate::rules::{self, InstalledTable, RuleError, RuleSpec, SpecError, Target};
use crate::source::Source;
use crate::source::nflog::{Group, GroupConfig, GroupError};
use crate::source::nfqueue::{LastStatus, Queue, QueueConfig, QueueError, QueueStatus};
use drops::drops_before_hook;
use files::{extension, file_snaplen, pcapng, ring_config};

/// Why a capture cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The group cannot be read.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The queue cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The ring cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rule cannot be installed.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The rule asked for makes no sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No thread could be started.
    #[error("cannot start a capturing thread: {0}")]
    Thread(io::Error),
}

/// An open source of either kind.
enum Opened {
    Group(Group),
    Queue(Queue),
}

/// A capturing thread and what it publishes.
struct Running {
    number: u16,
    account: Arc<Account>,
    watch: Watch,
    thread: JoinHandle<Outcome>,
    granted_buffer_bytes: usize,
    /// Where a queue leaves the kernel's figures at its end; none for a group.
    queue_status: Option<LastStatus>,
}

/// A running capture.
pub struct Session {
    settings: Settings,
    control: Arc<Control>,
    running: Vec<Running>,
    /// The counters of all groups together: known also where groups share one.
    watch: Watch,
    installed: Option<InstalledTable>,
    notices: Receiver<Notice>,
    recovered: Vec<Recovered>,
    begun: Instant,
    drops_before: u64,
}

impl Session {
    /// Opens everything and starts capturing. What is there when it returns captures.
    ///
    /// Rings come first, so that no packet waits for a disk; then the groups; a rule to install
    /// comes last, so that its counter counts nothing that no group was bound for.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is left behind then.
    pub fn start(settings: Settings) -> Result<Session, SessionError> {
        // The rule's counter is to be read before the capture ends.
        let control = Arc::new(Control::watched(settings.count));
        let (notices_to, notices) = mpsc::channel();
        let mut recovered = Vec::new();

        let rings = open_rings(&settings, &notices_to, &mut recovered)?;

        let mut watch = Watch::before_bind(settings.target, &settings.numbers);
        let mut sources = Vec::new();
        for number in &settings.numbers {
            let mut watch = Watch::before_bind(settings.target, &[*number]);
            let source = open_source(&settings, *number)?;
            watch.after_bind();
            sources.push((*number, source, watch));
        }
        watch.after_bind();
        let drops_before = drops_before_hook();
        let installed = match &settings.rule {
            Some(request) => {
                let mut spec = RuleSpec::new(settings.target, &settings.numbers)?;
                if let Some(iface) = &request.iface {
                    spec = spec.with_iface(iface)?;
                }
                if request.drop {
                    spec = spec.with_drop()?;
                }
                Some(rules::install(&spec)?)
            }
            None => None,
        };
        if installed.is_some() {
            // Found while the rules are there: the end takes them away, and leaves the counters.
            watch.look_up()?;
            for (_, _, watch) in &mut sources {
                watch.look_up()?;
            }
        }

        let mut session = Session {
            settings,
            control,
            running: Vec::new(),
            watch,
            installed,
            notices,
            recovered,
            begun: Instant::now(),
            drops_before,
        };
        for ((number, source, watch), ring) in sources.into_iter().zip(rings) {
            let running = session
                .spawn(number, source, watch, ring)
                .map_err(SessionError::Thread)?;
            session.running.push(running);
        }
        Ok(session)
    }

    fn spawn(
        &self,
        number: u16,
        source: Opened,
        watch: Watch,
        ring: Option<Ring>,
    ) -> io::Result<Running> {
        let account = Arc::new(Account::default());
        let published = Arc::clone(&account);
        let (thread, granted_buffer_bytes, queue_status) = match source {
            Opened::Group(group) => {
                let granted = group.granted_buffer_bytes();
                (
                    self.spawn_thread(number, group, ring, published)?,
                    granted,
                    None,
                )
            }
            Opened::Queue(queue) => {
                let (granted, status) = (queue.granted_buffer_bytes(), queue.last_status());
                (
                    self.spawn_thread(number, queue, ring, published)?,
                    granted,
                    Some(status),
                )
            }
        };
        Ok(Running {
            number,
            account,
            watch,
            thread,
            granted_buffer_bytes,
            queue_status,
        })
    }

    fn spawn_thread<S: Source + Send + 'static>(
        &self,
        number: u16,
        source: S,
        ring: Option<Ring>,
        account: Arc<Account>,
    ) -> io::Result<JoinHandle<Outcome>> {
        let name = self.settings.ring_name(number);
        let control = Arc::clone(&self.control);
        let format = self
            .settings
            .output
            .as_ref()
            .map_or(FileFormat::PcapNg, |output| output.format);
        match format {
            FileFormat::PcapNg => {
                let format = pcapng(&self.settings, number);
                capture_thread(&name, source, self.writer(format, ring), control, account)
            }
            FileFormat::Pcap => {
                let format = Pcap::new(self.settings.link, file_snaplen(&self.settings));
                capture_thread(&name, source, self.writer(format, ring), control, account)
            }
        }
    }

    fn writer<F: Format>(&self, format: F, ring: Option<Ring>) -> Option<Writer<F>> {
        let (link, snaplen) = (self.settings.link, self.settings.snaplen);
        ring.map(|ring| Writer {
            format,
            ring,
            link,
            snaplen,
        })
    }

    /// What stops and rotates it.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Files of a killed run that were finished on opening.
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }

    /// The smallest receive buffer granted.
    pub fn granted_buffer_bytes(&self) -> usize {
        self.running
            .iter()
            .map(|running| running.granted_buffer_bytes)
            .min()
            .unwrap_or(0)
    }

    /// What the swappers have to say, without waiting.
    pub fn notices(&self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.try_iter()
    }

    /// How long it has been running.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// True when a capturing thread has ended by itself: an error, or `--count` reached.
    pub fn has_ended(&self) -> bool {
        self.running
            .iter()
            .any(|running| running.thread.is_finished())
    }

    /// The groups or queues that no rule feeds. Reads the rules anew.
    ///
    /// # Errors
    /// What reading the rules says.
    pub fn unfed(&mut self) -> Result<Vec<u16>, RuleError> {
        let target = self.settings.target;
        let mut unfed = Vec::new();
        for number in &self.settings.numbers {
            if rules::feeds(target, *number)?.is_empty() {
                unfed.push(*number);
            }
        }
        Ok(unfed)
    }

    /// The rules that feed the capture, as they were read last.
    pub fn feeds(&self) -> &[rules::Feed] {
        self.watch.feeds()
    }

    /// The sum of the figures now. While it runs, what was counted and has not arrived yet counts
    /// neither as detected nor as lost.
    pub fn figures(&mut self) -> Figures {
        let mut sum = Tally::default();
        for running in &self.running {
            sum += running.account.read();
        }
        let mut figures = Figures::new(None, &sum, None, false);
        figures.detected = self
            .watch
            .read()
            .map(|bounds| bounds.least.max(sum.numbered));
        figures
    }

    /// Stops the capture: the sources detach, what the kernel still holds is taken, files are
    /// finished. Returns the report, and the error that ended a thread, if one did.
    pub fn finish(mut self) -> (Report, Option<io::Error>) {
        // With a rule of our own, nothing is counted any more when the groups are released.
        if let Some(installed) = &mut self.installed
            && let Err(error) = installed.stop_logging()
        {
            log::debug!("cannot take the rule back before the end: {error}");
        }
        // Counters are read before and after: what was counted in between is uncertain.
        let total_before = self.watch.read();
        let befores: Vec<_> = self
            .running
            .iter_mut()
            .map(|running| running.watch.read())
            .collect();
        self.control.stop();
        let mut groups = Vec::new();
        let (mut sum, mut files, mut error) = (Tally::default(), Vec::new(), None);
        let mut remarks = Vec::new();
        let (mut tail, mut refused) = (false, 0);
        let queues = self.settings.target == Target::Queue;
        let fail_open = self.settings.queue.fail_open;
        for (running, before) in self.running.into_iter().zip(befores) {
            let Running {
                number,
                mut watch,
                thread,
                queue_status,
                ..
            } = running;
            let Ok(mut outcome) = thread.join() else {
                error.get_or_insert_with(|| io::Error::other("a capturing thread panicked"));
                continue;
            };
            let bounds = both(before, watch.read());
            let last = queue_status
                .and_then(|status| *status.lock().unwrap_or_else(PoisonError::into_inner));
            let dropped_by_kernel = last.map_or(0, |last| count_unseen_end(&mut outcome, last));
            let tail_overrun = !queues && outcome.dropped_datagrams > outcome.explained_datagrams;
            tail |= tail_overrun;
            refused += dropped_by_kernel;
            let figures = Figures::new(Some(number), &outcome.tally, bounds, tail_overrun);
            groups.push(if queues {
                figures.of_queue(fail_open, dropped_by_kernel)
            } else {
                figures
            });
            remarks.extend(remarks_on(&outcome, &watch, number));
            sum += outcome.tally;
            files.extend(outcome.files);
            if let Some(cause) = outcome.error {
                error.get_or_insert(cause);
            }
        }
        let mut total = Figures::new(None, &sum, both(total_before, self.watch.read()), tail);
        if queues {
            total = total.of_queue(fail_open, refused);
        }
        add_up(&mut total, &groups);
        let elapsed = self.begun.elapsed();
        let before_hook = drops_before_hook().saturating_sub(self.drops_before);
        let mut report = Report::new(groups, total, before_hook, files, elapsed);
        report.remarks = remarks;
        (report, error)
    }
}

/// Where each group's losses are known, so is their sum, place by place.
fn add_up(total: &mut Figures, groups: &[Figures]) {
    if groups.iter().all(|group| group.detected.is_some()) {
        total.detected = groups.iter().map(|group| group.detected).sum();
        total.detected_uncertain = groups.iter().map(|group| group.detected_uncertain).sum();
        total.dropped.overrun = groups.iter().map(|group| group.dropped.overrun).sum();
        total.dropped.allocation = groups.iter().map(|group| group.dropped.allocation).sum();
        total.dropped.queue = groups.iter().map(|group| group.dropped.queue).sum();
        if let Some(sum) = &mut total.unrecorded {
            sum.passed = groups
                .iter()
                .filter_map(|group| group.unrecorded)
                .map(|group| group.passed)
                .sum();
        }
    }
}

/// The last id that a queue gave tells what the socket lost behind the last packet that arrived.
/// Returns how many packets the kernel dropped by its own count.
fn count_unseen_end(outcome: &mut Outcome, last: QueueStatus) -> u64 {
    // The account counts further than the kernel's 32 bits.
    let unseen = last.last_id.wrapping_sub(low_half(outcome.tally.numbered));
    let unseen = if unseen > u32::MAX / 2 {
        0
    } else {
        u64::from(unseen)
    };
    outcome.tally.numbered += unseen;
    outcome.tally.overrun += unseen;
    u64::from(last.queue_dropped) + u64::from(last.user_dropped)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is meant"
)]
fn low_half(number: u64) -> u32 {
    number as u32
}

/// What was counted by the time the group was released, between two readings.
fn both(before: Option<Bounds>, after: Option<Bounds>) -> Option<Bounds> {
    let (before, after) = (before?, after?);
    Some(Bounds {
        least: before.least,
        most: after.most.max(before.most),
    })
}

fn remarks_on(outcome: &Outcome, watch: &Watch, number: u16) -> Vec<String> {
    let mut remarks = Vec::new();
    if watch.is_broken() {
        remarks.push(format!(
            "the counter of {number} was reset or reloaded while capturing: detected may be too low"
        ));
    }
    if outcome.truncated_datagrams != 0 {
        remarks.push(format!(
            "{} datagrams of {number} did not fit the receive buffer: please report this",
            outcome.truncated_datagrams
        ));
    }
    remarks
}

fn capture_thread<S, F>(
    name: &str,
    source: S,
    writer: Option<Writer<F>>,
    control: Arc<Control>,
    account: Arc<Account>,
) -> io::Result<JoinHandle<Outcome>>
where
    S: Source + Send + 'static,
    F: Format + Send + 'static,
{
    let capture = Capture::new(source, writer, control, account);
    thread::Builder::new()
        .name(format!("capture-{name}"))
        .spawn(move || capture.run())
}

/// The ring of each number; none of them with `--discard`. All of them have to fit the disk together.
fn open_rings(
    settings: &Settings,
    notices: &Notices,
    recovered: &mut Vec<Recovered>,
) -> Result<Vec<Option<Ring>>, StoreError> {
    let Some(output) = &settings.output else {
        return Ok(settings.numbers.iter().map(|_| None).collect());
    };
    let mut stores = Vec::new();
    for number in &settings.numbers {
        let store = Store::open(&output.dir, &settings.ring_name(*number), extension(output))?;
        recovered.extend_from_slice(store.recovered());
        stores.push(store);
    }
    check_space(&stores, output.files, output.file_bytes)?;
    let rings = settings.numbers.iter().zip(stores);
    rings
        .map(|(number, store)| {
            let config = ring_config(settings, output, *number);
            Ring::open(config, store, notices.clone()).map(Some)
        })
        .collect()
}

fn open_source(settings: &Settings, number: u16) -> Result<Opened, SessionError> {
    let copy_range_bytes = settings.copy_range_bytes();
    match settings.target {
        Target::Group => {
            let config = GroupConfig {
                batch: settings.batch,
                flush: settings.flush,
                buffer_bytes: settings.buffer_bytes,
                ..GroupConfig::new(number, copy_range_bytes)
            };
            Ok(Opened::Group(Group::open(config)?))
        }
        Target::Queue => {
            let options = &settings.queue;
            let config = QueueConfig {
                queue: number,
                copy_range_bytes,
                len: options.len,
                fail_open: options.fail_open,
                verdict: options.verdict,
                mark: options.mark,
                buffer_bytes: settings.buffer_bytes,
            };
            Ok(Opened::Queue(Queue::open(config)?))
        }
    }
}

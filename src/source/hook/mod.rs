//! The hook itself: a program at a Netfilter hook copies each packet into a ring that is mapped
//! here.
//!
//! What the thesis's kernel module did, without a module: the kernel's verifier checks the program
//! before it runs. No message, no system call and no wake-up a packet. The program is put together
//! here, for the kernel's own types ([`btf`]), by [`program`]; where what stands in the memory that
//! both share says [`layout`]; [`ring`] reads it. `docs/HOOK.md` tells it from the beginning.

pub mod assembler;
mod batch;
pub mod btf;
mod config;
mod error;
mod interfaces;
pub mod layout;
mod pace;
mod processors;
pub mod program;
pub mod record;
pub mod ring;
mod setup;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use config::{Cutoff, HookConfig, HookPoint, PRIORITIES_TRIED, PRIORITY_DEFAULT};
pub use error::HookError;

use super::{Arrival, Change, Count, Ledger, Refused, Source, links};
use crate::packet::{IpFamily, Resolution};
use crate::sys::hook::{self as bpf, SharedMap, TestRun};
pub use batch::Batch;

use assembler::{AssembleError, Assembled};
use layout::{
    COPY_RANGE, CUTOFF, LATE, NESTED, NO_SLOT, SAMPLE, SLOTS, TAI_AHEAD, WITHOUT_RING_INTERFACE,
    WITHOUT_RING_MARK, WITHOUT_RING_PAUSED,
};
use pace::Pace;
use processors::Processors;
use program::Parameters;
use record::Templates;
use ring::Rings;
use setup::{check, connections, geometry_of, types_of};

/// A ring is never smaller: a pause of the reader of 20 ms at a million short packets a second.
const RING_BYTES_MIN: usize = 4 << 20;
/// The verifier follows offsets up to 512 MiB.
const RING_BYTES_MAX: usize = 256 << 20;
/// The longest packet there is: `GSO_MAX_SIZE`, merged by the interface (BIG TCP).
pub const COPY_RANGE_MAX_BYTES: u32 = 8 * 65_536;
/// Interfaces that can be named later where one is named at the start, at the least.
const INTERFACES_MIN: usize = 8;
/// Bytes of a packet that can be copied where less is at the start.
const COPY_RANGE_MIN: u32 = 262_144;
/// How often interfaces are looked up by their names where nobody tells of them.
const REFRESH: Duration = Duration::from_millis(100);
const PAGE: usize = 4096;
const NAME: &str = "lwnflog";

/// A program at a hook, and the rings it fills.
#[derive(Debug)]
pub struct Hook {
    // Field order is drop order: the hook is left before its memory goes.
    /// One a family.
    links: Vec<OwnedFd>,
    priority: i32,
    /// There once it is attached.
    program: Option<OwnedFd>,
    config: HookConfig,
    /// The interfaces captured now; none is all.
    names: Vec<String>,
    settings: SharedMap,
    rings: Rings,
    templates: Templates,
    pace: Pace,
    paused: bool,
    /// There was more than a batch takes.
    more: bool,
    refreshed: Instant,
    /// Which interfaces there are is told: they need not be looked up.
    links_are_told: bool,
    /// What the program has been told that atomic time is ahead, and by how much that has grown at
    /// the last look.
    tai_ahead_ns: u64,
    learnt_ns: i64,
    /// Packets for which there was no ring, as far as packets' numbers show them.
    lost_without_ring: u64,
    ring_bytes: usize,
    ring_count: usize,
    listing: String,
}

impl Hook {
    /// Loads the program and attaches it in the calling thread's network namespace. When this is
    /// dropped, or the process dies, nothing is left in the kernel.
    ///
    /// # Errors
    /// [`HookError`], each with its remedy.
    pub fn open(config: HookConfig) -> Result<Hook, HookError> {
        Self::open_with(config, &mut program::assemble)
    }

    /// The same with a program that is put together otherwise: tests hold the C twin against ours.
    #[doc(hidden)]
    pub fn open_with(
        config: HookConfig,
        assemble: &mut dyn FnMut(&Parameters) -> Result<Assembled, AssembleError>,
    ) -> Result<Hook, HookError> {
        check(&config)?;
        let types = types_of(&config)?;
        let processors = match &config.processors {
            Some(given) => Processors::of(given.clone()),
            None => Processors::online(),
        };
        let (geometry, value_bytes) = geometry_of(&config, processors.rings().len())?;
        let sum = geometry.stride_bytes * geometry.rings;
        let count = u32::try_from(geometry.rings).unwrap_or(u32::MAX);
        let rings = bpf::create_array(NAME, count, value_bytes)
            .map_err(|source| HookError::of_memory(sum, source))?;
        let settings_bytes = (SLOTS + 4 * processors.table().len()).next_multiple_of(PAGE);
        let settings =
            bpf::create_array(NAME, 1, u32::try_from(settings_bytes).unwrap_or(u32::MAX))
                .map_err(|source| HookError::of_call("make the map of settings", source))?;
        let connections = match config.cutoff {
            Some(cutoff) => Some(connections(cutoff)?),
            None => None,
        };
        let map = |fd, bytes| {
            SharedMap::new(fd, bytes).map_err(|source| HookError::System {
                what: "map the rings",
                source,
            })
        };
        let shared_settings = map(&settings, settings_bytes)?;
        let shared_rings = map(&rings, sum)?;
        for (slot, place) in processors.table().iter().zip((SLOTS..).step_by(4)) {
            if let Some(word) = shared_settings.half_word(place) {
                word.store(*slot, Ordering::Relaxed);
            }
        }
        let parameters = Parameters {
            types,
            rings: rings.as_raw_fd(),
            settings: settings.as_raw_fd(),
            cutoff: connections.as_ref().map(AsRawFd::as_raw_fd),
            ring_bytes: u32::try_from(geometry.ring_bytes).unwrap_or(u32::MAX),
            copy_range_bytes: u32::try_from(geometry.copy_range_bytes).unwrap_or(u32::MAX),
            processors: processors.way(),
            interfaces: match config.interfaces.len() {
                0 => 0,
                named => named.max(INTERFACES_MIN),
            },
            mark: config.mark,
            sample: config.sample.is_some(),
            drop: config.drop,
            guard: false,
        };
        let mut this = Hook {
            links: Vec::new(),
            priority: PRIORITY_DEFAULT,
            program: None,
            pace: Pace::new(geometry.ring_bytes, layout::record_bytes(0)),
            rings: Rings::new(shared_rings, geometry),
            templates: Templates::default(),
            settings: shared_settings,
            paused: false,
            more: false,
            refreshed: Instant::now(),
            links_are_told: false,
            lost_without_ring: 0,
            tai_ahead_ns: 0,
            learnt_ns: 0,
            ring_bytes: geometry.ring_bytes,
            ring_count: geometry.rings,
            listing: String::new(),
            names: config.interfaces.clone(),
            config,
        };
        this.look_up_interfaces();
        this.look_at_clock();
        this.set_copy_range();
        let sample = this.config.sample.unwrap_or(1);
        this.set_word(SAMPLE, u64::from(sample));
        this.rings.begin_sample(sample);
        this.set_word(CUTOFF, this.config.cutoff.map_or(0, |cutoff| cutoff.bytes));
        // Last: no packet comes before everything is as it should be.
        this.attach(&parameters, assemble)?;
        Ok(this)
    }

    /// Loads and attaches the program, at the priority asked for or the first that is free.
    fn attach(
        &mut self,
        parameters: &Parameters,
        assemble: &mut dyn FnMut(&Parameters) -> Result<Assembled, AssembleError>,
    ) -> Result<(), HookError> {
        let first = PRIORITY_DEFAULT + i32::from(self.config.mark.is_some());
        let priorities = match self.config.priority {
            Some(priority) => priority..=priority,
            None => first..=first + PRIORITIES_TRIED - 1,
        };
        let hook = u32::from(self.config.hook.number());
        let mut refused = None;
        for priority in priorities {
            let assembled = assemble(&Parameters {
                // A multicast route that a process resolves has the packets that waited for it pass
                // forward there, and softirq comes in between (ipmr_cache_resolve).
                guard: priority > PRIORITY_DEFAULT || self.config.hook == HookPoint::Forward,
                ..*parameters
            })
            .map_err(|error| HookError::Settings(error.to_string()))?;
            let program = bpf::load(NAME, &assembled.instructions).map_err(HookError::of_load)?;
            let families = match self.config.family {
                IpFamily::Ip => &[bpf::NFPROTO_IPV4][..],
                IpFamily::Ip6 => &[bpf::NFPROTO_IPV6],
                IpFamily::Both => &[bpf::NFPROTO_IPV4, bpf::NFPROTO_IPV6],
            };
            let attached = families
                .iter()
                .map(|family| bpf::attach(program.as_fd(), *family, hook, priority));
            match attached.collect::<io::Result<Vec<_>>>() {
                Ok(links) => {
                    self.links = links;
                    self.priority = priority;
                    self.program = Some(program);
                    self.listing = assembled.listing;
                    return Ok(());
                }
                Err(source) => match HookError::of_attach(priority, source) {
                    taken @ HookError::PriorityTaken(_) => refused = Some(taken),
                    other => return Err(other),
                },
            }
        }
        Err(refused.unwrap_or(HookError::Priority(first)))
    }

    /// Where it stands among the others at the hook.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Its settings.
    pub fn config(&self) -> &HookConfig {
        &self.config
    }

    /// Bytes of all rings in sum.
    pub fn buffer_bytes(&self) -> usize {
        self.ring_bytes * self.ring_count
    }

    /// The program's listing.
    pub fn listing(&self) -> &str {
        &self.listing
    }

    /// The kernel's number of the program.
    ///
    /// # Errors
    /// What the system says.
    pub fn program_id(&self) -> io::Result<u32> {
        bpf::program_id(self.program()?)
    }

    /// Has the kernel run the program on a packet (from its IPv4 header on) without any traffic, so
    /// many times. Each run counts as a packet. Needs the capabilities that loading needs.
    ///
    /// # Errors
    /// What the system says.
    pub fn test_run(&self, packet: &[u8], repeat: u32) -> io::Result<TestRun> {
        bpf::test_run(self.program()?, packet, repeat)
    }

    fn program(&self) -> io::Result<BorrowedFd<'_>> {
        let program = self.program.as_ref().map(AsFd::as_fd);
        program.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Looks what the kernel's atomic time is ahead. Where the kernel has learnt it since the last
    /// look (once a boot, mostly), returns by how much the program's times are ahead until now.
    fn look_at_clock(&mut self) -> i64 {
        let ahead = processors::tai_ahead_ns().unwrap_or(self.tai_ahead_ns);
        let before = std::mem::replace(&mut self.tai_ahead_ns, ahead);
        if ahead != before {
            self.set_word(TAI_AHEAD, ahead);
        }
        ahead.wrapping_sub(before).cast_signed()
    }

    fn set_word(&self, place: usize, value: u64) {
        if let Some(word) = self.settings.word(place) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Has the program copy what is wanted of each packet; nothing while paused.
    fn set_copy_range(&mut self) {
        let bytes = self.config.copy_range_bytes.max(1);
        self.pace.set_record(
            self.ring_bytes,
            layout::record_bytes(bytes.min(1500) as usize),
        );
        self.set_word(COPY_RANGE, if self.paused { 0 } else { u64::from(bytes) });
    }

    fn rest(&mut self) {
        if self.more {
            return;
        }
        std::thread::sleep(self.pace.rest());
    }

    fn count_of(&self, place: usize) -> u64 {
        self.settings
            .word(place)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

impl Source for Hook {
    type Batch<'a> = Batch<'a>;

    #[inline]
    fn receive(&mut self, wait: bool) -> io::Result<Arrival> {
        self.rings.release();
        if wait {
            self.rest();
        }
        let now = Instant::now();
        if !self.links_are_told && now.duration_since(self.refreshed) >= REFRESH {
            self.refreshed = now;
            self.look_up_interfaces();
        }
        let learnt = self.look_at_clock();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = since_1970.map_or(u64::MAX, |time| {
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
        });
        // Once nothing comes any more, nothing waits.
        let horizon = if self.links.is_empty() {
            u64::MAX
        } else {
            wall
        };
        let (bytes, any) = self.rings.look(horizon);
        // The program may be at work with what it was told before.
        for ahead_ns in [std::mem::replace(&mut self.learnt_ns, learnt), learnt] {
            if ahead_ns != 0 {
                self.rings.set_back(ahead_ns, wall);
            }
        }
        let lost = self.count_of(LATE) + self.count_of(NESTED);
        let more = lost - std::mem::replace(&mut self.lost_without_ring, lost);
        self.rings
            .note_lost(u32::try_from(more).unwrap_or(u32::MAX));
        self.pace.note(bytes, now);
        // What only waits for the next look is nothing yet.
        if any && self.rings.is_due() {
            Ok(Arrival::Batch)
        } else {
            self.more = false;
            Ok(Arrival::Nothing)
        }
    }

    #[inline]
    fn batch(&mut self) -> Batch<'_> {
        Batch::new(&self.rings, &mut self.templates)
    }

    #[inline]
    fn count(&self) -> Count {
        self.rings.count()
    }

    #[inline]
    fn finish_batch(&mut self) -> io::Result<()> {
        self.rings.release();
        self.more = self.rings.is_due();
        Ok(())
    }

    fn detach(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.links).is_empty() {
            bpf::wait_for_programs();
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::CopyRange(bytes) => {
                let most = self.rings.copy_range_bytes_max();
                if *bytes > most {
                    return Err(Refused(format!(
                        "the program copies at most {most} bytes of a packet: start the capture with more"
                    )));
                }
                self.config.copy_range_bytes = *bytes;
                self.set_copy_range();
            }
            Change::Paused(paused) => {
                self.paused = *paused;
                self.set_copy_range();
            }
            Change::Interfaces(names) => self.set_interfaces(names)?,
            Change::Sample(_) if self.config.sample.is_none() => {
                return Err(Refused::not_begun_with("--sample"));
            }
            Change::Sample(every) => self.set_word(SAMPLE, u64::from(*every)),
            Change::CutoffBytes(_) if self.config.cutoff.is_none() => {
                return Err(Refused::not_begun_with("--cutoff"));
            }
            Change::CutoffBytes(bytes) => self.set_word(CUTOFF, *bytes),
            Change::Batch(_)
            | Change::BatchBytes(_)
            | Change::Flush(_)
            | Change::BufferBytes(_) => {
                return Err(Refused(
                    "a hook has no such setting: its rings are as large as they were made"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn note_links(&mut self, changes: &[links::Change]) {
        self.follow_links(changes);
    }

    fn dropped_datagrams(&self) -> u64 {
        0
    }

    fn truncated_datagrams(&self) -> u64 {
        0
    }

    fn resolution(&self) -> Resolution {
        Resolution::Nanos
    }

    fn next_number(&self) -> Option<u32> {
        Some(self.rings.next_number())
    }

    fn ledger(&self) -> Option<Ledger> {
        let counters = self.rings.counters();
        let (no_ring, nested) = (self.count_of(LATE), self.count_of(NESTED));
        let interface = self.count_of(WITHOUT_RING_INTERFACE);
        let mark = self.count_of(WITHOUT_RING_MARK);
        let paused = self.count_of(WITHOUT_RING_PAUSED);
        let mut ledger = Ledger {
            detected: counters.detected + no_ring + nested + interface + mark + paused,
            dropped: counters.dropped,
            no_ring,
            nested,
            unreadable: 0,
            left_interface: counters.left_interface + interface,
            left_mark: counters.left_mark + mark,
            left_sample: counters.left_sample,
            left_paused: counters.left_paused + paused,
            left_cutoff: counters.left_cutoff,
        };
        // Whole when everything is read: until then some of it is still in the rings.
        if self.rings.broken() != 0 {
            let known = ledger.lost() + ledger.left_out() + self.rings.read();
            ledger.unreadable = ledger.detected.saturating_sub(known);
        }
        Some(ledger)
    }
}

const _: () = assert!(NO_SLOT == u32::MAX);

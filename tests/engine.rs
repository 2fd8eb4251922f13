//! The capture loop and the ring without a kernel: a scripted source hands over any sequence of
//! batches, and after each one the files must be whole, with all packets, in order.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::datagrams::{hit_of, real_datagrams};
use common::files::{Contents, packet_places, parse};
use common::until;
use lwnflog::account::Account;
use lwnflog::capture::{Capture, Command, Control, Discard, FileSink, Outcome};
use lwnflog::format::pcap::Pcap;
use lwnflog::format::pcapng::PcapNg;
use lwnflog::format::pcapng::block::put_padding;
use lwnflog::format::{Format, Interfaces, LinkType};
use lwnflog::netlink::{Attributes, Messages};
use lwnflog::packet::{Packet, TemplateHit};
use lwnflog::ring::recovery::repair_bytes;
use lwnflog::ring::{Access, Limits, Ring, RingConfig, Store, segment_bytes_for};
use lwnflog::source::TEMPLATES_MAX;
use lwnflog::source::nflog::message::attribute;
use lwnflog::source::nflog::template::Templates;
use lwnflog::source::nflog::{self, count};
use lwnflog::source::{Arrival, Count, Hits, Item, Source, Walk};
use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

const SNAPLEN: u32 = 200;
const FILES: usize = 3;
const FIRST_STAMP_US: u64 = 1_700_000_000_000_000;

/// A packet of the script.
#[derive(Debug, Clone)]
struct Scripted {
    payload_len: usize,
    ifindex: u32,
    mark: u32,
    prefix: usize,
    /// Sequence numbers that are missing before it.
    lost_before: u32,
    /// Not an IPv4 packet.
    foreign: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<Scripted>),
    Rotate,
    Nothing,
}

/// Where a test stands: shared by the source and its checks.
struct Script {
    steps: VecDeque<Step>,
    control: Arc<Control>,
    dir: PathBuf,
    /// Whether live files can be read (pcapng).
    check: bool,
    batch: Vec<(Scripted, Vec<u8>, u32)>,
    /// The last packet walked of each template, in whatever batch; interfaces share some.
    firsts: [Packet<'static>; TEMPLATES_MAX],
    sequence: u32,
    /// Numbers of the packets handed over so far that are to be in files.
    given: Vec<u32>,
}

impl Script {
    fn prepare(&mut self, batch: Vec<Scripted>) {
        self.batch.clear();
        for packet in batch {
            self.sequence += packet.lost_before;
            let number = self.sequence;
            self.sequence += 1;
            let mut payload = vec![0xa5; packet.payload_len];
            payload[0] = if packet.foreign { 0x65 } else { 0x45 };
            let total = u16::try_from(packet.payload_len).unwrap();
            payload[2..4].copy_from_slice(&total.to_be_bytes());
            payload[20..24].copy_from_slice(&number.to_be_bytes());
            self.batch.push((packet, payload, number));
        }
    }
}

struct Walking<'a> {
    rest: std::slice::Iter<'a, (Scripted, Vec<u8>, u32)>,
    packet: Packet<'a>,
    firsts: &'a mut [Packet<'static>; TEMPLATES_MAX],
}

fn packet<'a>(given: &'a (Scripted, Vec<u8>, u32)) -> Packet<'a> {
    Packet {
        payload: &given.1,
        ..without_payload(given)
    }
}

fn without_payload((scripted, _, number): &(Scripted, Vec<u8>, u32)) -> Packet<'static> {
    Packet {
        prefix: &b"a prefix of a rule"[..scripted.prefix],
        stamp_ticks: NonZeroU64::new(FIRST_STAMP_US + u64::from(*number)),
        sequence: Some(*number),
        mark: scripted.mark,
        ifindex_in: scripted.ifindex,
        protocol: if scripted.foreign { 0x86dd } else { 0x0800 },
        template: Some(scripted.ifindex as usize % TEMPLATES_MAX),
        ..Packet::default()
    }
}

impl<'a> Walking<'a> {
    /// The next packet's template, if it is a hit of the last one walked of that template.
    fn next_hit(&self) -> Option<(usize, TemplateHit<'a>)> {
        let packet = packet(self.rest.as_slice().first()?);
        let (template, hit) = (packet.template?, hit_of(&packet)?);
        (hit.packet(&self.firsts[template]) == packet).then_some((template, hit))
    }
}

impl<'a> Walk for Walking<'a> {
    type Hits<'h>
        = WalkingHits<'h, 'a>
    where
        Self: 'h;

    fn next(&mut self) -> Option<Item<'_>> {
        let given = self.rest.next()?;
        self.packet = packet(given);
        self.firsts[self.packet.template.unwrap()] = without_payload(given);
        Some(Item::Packet(&self.packet))
    }

    fn template(&mut self) -> Option<usize> {
        Some(self.next_hit()?.0)
    }

    fn hits(&mut self, template: usize) -> Option<WalkingHits<'_, 'a>> {
        let batch = self;
        Some(WalkingHits { batch, template })
    }
}

struct WalkingHits<'h, 'a> {
    batch: &'h mut Walking<'a>,
    template: usize,
}

impl Hits for WalkingHits<'_, '_> {
    fn peek(&mut self) -> Option<TemplateHit<'_>> {
        let (template, hit) = self.batch.next_hit()?;
        (template == self.template).then_some(hit)
    }

    fn pass(&mut self) {
        self.batch.rest.next();
    }
}

impl Source for Script {
    type Batch<'a> = Walking<'a>;

    fn receive(&mut self, _wait: bool) -> io::Result<Arrival> {
        // The batch before is committed now.
        let recorded = self.batch.drain(..).filter(|(packet, ..)| !packet.foreign);
        self.given.extend(recorded.map(|(_, _, number)| number));
        if self.check {
            assert_files_hold(&self.dir, &self.given);
        }
        match self.steps.pop_front() {
            Some(Step::Batch(batch)) => {
                self.prepare(batch);
                return Ok(Arrival::Batch);
            }
            Some(Step::Rotate) => drop(self.control.ask(Command::Rotate)),
            Some(Step::Nothing) => {}
            None => self.control.stop(),
        }
        Ok(Arrival::Nothing)
    }

    fn batch(&mut self) -> Walking<'_> {
        Walking {
            rest: self.batch.iter(),
            packet: Packet::default(),
            firsts: &mut self.firsts,
        }
    }

    fn count(&self) -> Count {
        Count {
            packets: self.batch.len() as u64,
            first_sequence: self.batch.first().map(|(_, _, number)| *number),
            ..Count::default()
        }
    }

    fn detach(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn dropped_datagrams(&self) -> u64 {
        0
    }

    fn truncated_datagrams(&self) -> u64 {
        0
    }
}

/// All visible files, oldest first; `None` if one went away while it was looked at.
fn look(dir: &Path) -> Option<Vec<Contents>> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = names
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect();
    paths.sort();
    assert!(paths.len() <= FILES + 1, "{paths:?}");
    paths
        .iter()
        .map(|path| {
            let bytes = fs::read(path).ok()?;
            let now = fs::metadata(path).ok()?.len();
            match parse(&bytes) {
                Ok(contents) => Some(contents),
                // Cut to its length while it was read: the kernel then gives zeros for the rest.
                Err(_) if now != bytes.len() as u64 => None,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        })
        .collect()
}

fn numbers(files: &[Contents]) -> Vec<u32> {
    let all = files.iter().flat_map(|file| &file.packets);
    all.map(|packet| u32::from_be_bytes(packet.data[34..38].try_into().unwrap()))
        .collect()
}

/// The files hold the last of the packets handed over, without a hole.
fn assert_files_hold(dir: &Path, given: &[u32]) {
    until("the files hold what was handed over", || {
        // Names change in another thread: a packet's file may not have its live name yet.
        let found = numbers(&look(dir)?);
        (found.last() == given.last())
            .then(|| assert!(given.ends_with(&found), "{found:?} of {given:?}"))
    });
}

/// A sink of files in `dir`.
fn sink<F: Format>(dir: &Path, format: F, file_bytes: u64, segment_bytes: usize) -> FileSink<F> {
    let config = RingConfig {
        dir: dir.to_owned(),
        name: "g5".to_owned(),
        extension: F::EXTENSION,
        file_bytes,
        limits: Limits::files(FILES),
        segment_bytes,
        padding_blocks: F::PADDING_BLOCKS,
    };
    let store = Store::open(dir, "g5", F::EXTENSION, Access::default()).unwrap();
    let ring = Ring::open(config, store, mpsc::channel().0).unwrap();
    FileSink::new(format, ring, LinkType::Ethernet, SNAPLEN)
}

fn capture<F: Format>(
    dir: &Path,
    format: F,
    file_bytes: u64,
    segment_bytes: usize,
    steps: Vec<Step>,
) -> Outcome {
    let control = Arc::new(Control::new(None));
    let script = Script {
        steps: steps.into(),
        control: Arc::clone(&control),
        dir: dir.to_owned(),
        check: F::PADDING_BLOCKS,
        batch: Vec::new(),
        firsts: [Packet::default(); TEMPLATES_MAX],
        sequence: 0,
        given: Vec::new(),
    };
    let sink = sink(dir, format, file_bytes, segment_bytes);
    Capture::new(script, sink, control, Arc::new(Account::default())).run()
}

fn pcapng(segment_bytes: usize) -> PcapNg {
    let interfaces = Interfaces::new(|index| Some(format!("dev{index}")));
    PcapNg::new(
        LinkType::Ethernet,
        SNAPLEN,
        "a script".to_owned(),
        segment_bytes,
        interfaces,
    )
}

fn scripted() -> impl Strategy<Value = Scripted> {
    let prefix = prop_oneof![3 => Just(0usize), 1 => 0usize..18];
    let lost = prop_oneof![20 => Just(0u32), 1 => 1u32..1000];
    let mark = prop_oneof![3 => Just(0u32), 1 => any::<u32>()];
    (
        24usize..400,
        0u32..5,
        mark,
        prefix,
        lost,
        prop::bool::weighted(0.05),
    )
        .prop_map(
            |(payload_len, ifindex, mark, prefix, lost_before, foreign)| Scripted {
                payload_len,
                ifindex,
                mark,
                prefix,
                lost_before,
                foreign,
            },
        )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop::collection::vec(scripted(), 1..600).prop_map(Step::Batch),
        2 => Just(Step::Rotate),
        1 => Just(Step::Nothing),
    ];
    prop::collection::vec(step, 0..20)
}

/// What the script says happened.
fn expected(steps: &[Step]) -> (u64, u64, u64) {
    let packets = || {
        steps.iter().flat_map(|step| match step {
            Step::Batch(batch) => batch.as_slice(),
            _ => &[],
        })
    };
    let foreign = packets().filter(|packet| packet.foreign).count() as u64;
    let lost = packets().map(|packet| u64::from(packet.lost_before)).sum();
    (packets().count() as u64 - foreign, foreign, lost)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn files_are_whole_after_every_batch(steps in steps(), segments in 1u64..4, tiny in any::<bool>()) {
        let dir = common::temp_dir();
        // Segments of 64 KiB as in a real ring, and ones that hardly hold a record.
        let segment_bytes = if tiny { 4096 } else { segment_bytes_for(PcapNg::record_bytes_max(SNAPLEN as usize)) };
        let (written, foreign, lost) = expected(&steps);
        let format = pcapng(segment_bytes);
        let outcome = capture(dir.path(), format, segments * segment_bytes as u64, segment_bytes, steps);
        prop_assert!(outcome.error.is_none());
        let tally = outcome.tally;
        prop_assert_eq!((tally.written, tally.other_family, tally.overrun, tally.writer), (written, foreign, lost, 0));
        prop_assert_eq!(tally.numbered, written + foreign + lost);
        prop_assert!(outcome.files.len() <= FILES);
        // Each finished file ends in the figures of its interfaces.
        let contents = look(dir.path()).unwrap();
        for file in &contents {
            prop_assert!(file.packets.iter().all(|packet| packet.data.len() <= SNAPLEN as usize));
        }
        for file in &contents {
            let delivered: u64 = file.statistics.iter().map(|statistics| statistics.delivered).sum();
            prop_assert_eq!(delivered, file.packets.len() as u64);
            // It declares what occurs in it, and nothing else.
            let occurring: BTreeSet<u32> = file.packets.iter().map(|packet| packet.interface).collect();
            prop_assert_eq!(file.statistics.len(), occurring.len());
            let count = u32::try_from(occurring.len()).unwrap();
            prop_assert!(occurring.into_iter().eq(0..count));
            // But for the one whose first packet did not fit behind its block.
            prop_assert!(file.interfaces.len() <= file.statistics.len() + 1);
        }
    }

    /// After a power loss any page may be missing but the first, without which it is no capture
    /// file. What is left is readable, and nothing is in it that was not there before.
    #[test]
    fn a_file_that_misses_any_pages_is_repaired(
        steps in steps(),
        missing in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        tail in 0usize..100_000,
    ) {
        let dir = common::temp_dir();
        let outcome = capture(dir.path(), pcapng(65_536), 4 << 20, 65_536, steps);
        let Some(path) = outcome.files.first() else { return Ok(()) };
        let mut bytes = fs::read(path).unwrap();
        let before = parse(&bytes).unwrap();
        let places = packet_places(&bytes);
        // Not cut yet, and the rest of it never written.
        bytes.resize((bytes.len() + tail) & !3, 0);
        let pages = bytes.len() / 4096;
        let mut harmed = usize::MAX;
        for page in missing.iter().filter(|_| pages > 1).map(|at| 1 + at.index(pages - 1)) {
            bytes[page * 4096..(page + 1) * 4096].fill(0);
            harmed = harmed.min(page * 4096 / 65_536);
        }
        let (repaired, end) = repair_bytes(&mut bytes, None).unwrap();
        let after = parse(&bytes[..end]).unwrap();
        prop_assert_eq!(after.packets.len() as u64, repaired.packets);
        let mut originals = before.packets.iter();
        for packet in &after.packets {
            prop_assert!(originals.any(|original| original.stamp_ticks == packet.stamp_ticks));
        }
        // Up to the first segment that misses something, nothing is missing. (Behind it, interfaces
        // may be.)
        let kept = places.iter().filter(|(segment, _)| *segment < harmed);
        prop_assert!(after.packets.len() >= kept.count());
        // Once more finds nothing to do.
        let mut again = bytes[..end].to_vec();
        prop_assert_eq!(repair_bytes(&mut again, None).unwrap().1, end);
        prop_assert_eq!(&again, &bytes[..end]);
    }

    /// Files are not trusted either: whatever is in one, repair ends without a panic.
    #[test]
    fn repair_survives_any_bytes(
        packets in prop::collection::vec(scripted(), 1..30),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        random in prop::collection::vec(any::<u8>(), 0..200),
        classic in any::<bool>(),
    ) {
        let dir = common::temp_dir();
        let steps = vec![Step::Batch(packets)];
        let outcome = if classic {
            capture(dir.path(), Pcap::new(LinkType::Ethernet, SNAPLEN), 100_000, 100_000, steps)
        } else {
            capture(dir.path(), pcapng(4096), 65_536, 4096, steps)
        };
        let mut bytes = outcome.files.first().map(|path| fs::read(path).unwrap()).unwrap_or_default();
        bytes.extend(&random);
        for (at, value) in &changes {
            let at = at.index(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *value;
            }
        }
        if let Ok((_, end)) = repair_bytes(&mut bytes, None) {
            prop_assert!(end <= bytes.len());
        }
        let mut random = random;
        let _ = repair_bytes(&mut random, None);
    }

    #[test]
    fn classic_files_are_whole_at_the_end(steps in steps()) {
        let dir = common::temp_dir();
        let (written, foreign, lost) = expected(&steps);
        let outcome = capture(dir.path(), Pcap::new(LinkType::Ethernet, SNAPLEN), 100_001, 100_001, steps);
        let tally = outcome.tally;
        prop_assert_eq!((tally.written, tally.other_family, tally.overrun, tally.writer), (written, foreign, lost, 0));
        let found = numbers(&look(dir.path()).unwrap());
        prop_assert!(found.is_sorted() && found.len() as u64 <= written);
        if outcome.tally.files_begun <= FILES as u64 {
            prop_assert_eq!(found.len() as u64, written);
        }
    }
}

/// A group's datagrams as the kernel sent them, changed or not.
struct Recorded {
    datagrams: VecDeque<Vec<u8>>,
    now: Vec<u8>,
    templates: Templates,
    first_sequence: u32,
    control: Arc<Control>,
}

impl Source for Recorded {
    type Batch<'a> = nflog::Batch<'a>;

    fn receive(&mut self, _wait: bool) -> io::Result<Arrival> {
        match self.datagrams.pop_front() {
            Some(datagram) => self.now = datagram,
            None => {
                self.control.stop();
                return Ok(Arrival::Nothing);
            }
        }
        Ok(Arrival::Batch)
    }

    fn batch(&mut self) -> nflog::Batch<'_> {
        nflog::Batch::new(&self.now, &mut self.templates)
    }

    fn count(&self) -> Count {
        nflog::count(&self.now)
    }

    fn detach(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn dropped_datagrams(&self) -> u64 {
        0
    }

    fn truncated_datagrams(&self) -> u64 {
        0
    }

    fn first_sequence(&self) -> u32 {
        self.first_sequence
    }
}

/// The kernel creates a group and sets its flags one after the other: what comes in between has no
/// number, and is a packet all the same.
#[test]
fn packets_without_a_number_are_in_the_account() {
    let sequence_attribute = [8, 0, 12, 0]; // NFULA_SEQ, 8 bytes long
    let datagrams = real_datagrams();
    let whole = datagrams.iter().max_by_key(|d| count(d).packets).unwrap();
    let Count {
        packets,
        first_sequence: Some(first),
        ..
    } = count(whole)
    else {
        panic!("a recorded datagram without numbers");
    };
    assert!(packets > 3);
    for unnumbered in [1, 2, packets] {
        let mut bytes = whole.to_vec();
        for _ in 0..unnumbered {
            let mut places = bytes.windows(4);
            let at = places.position(|bytes| bytes == sequence_attribute);
            bytes[at.unwrap() + 2] = 99; // an attribute that nobody knows
        }
        for discard in [false, true] {
            let dir = common::temp_dir();
            let control = Arc::new(Control::new(None));
            let source = Recorded {
                datagrams: [bytes.clone()].into(),
                now: Vec::new(),
                templates: Templates::default(),
                first_sequence: first + u32::try_from(unnumbered).unwrap(),
                control: Arc::clone(&control),
            };
            let account = Arc::new(Account::default());
            let outcome = if discard {
                Capture::new(source, Discard, control, account).run()
            } else {
                let sink = sink(dir.path(), pcapng(1 << 18), 1 << 20, 1 << 18);
                Capture::new(source, sink, control, account).run()
            };
            let tally = outcome.tally;
            assert_eq!(tally.received, packets);
            assert_eq!((tally.numbered, tally.overrun), (packets, 0));
            assert_eq!(tally.written + tally.discarded, packets);
        }
    }
}

/// Minor and major faults of the calling thread (`proc(5)`, `stat`, fields 10 and 12).
fn page_faults() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[7].parse::<u64>().unwrap() + fields[9].parse::<u64>().unwrap()
}

/// A ring of one writer, and a way to write to it: a padding block is as good as a packet.
struct Pages {
    ring: Ring,
    format: PcapNg,
    block: Vec<u8>,
}

const MIB: usize = 1 << 20;

impl Pages {
    fn new(dir: &Path, file_bytes: u64) -> Pages {
        let sink = sink(dir, pcapng(1 << 18), file_bytes, 1 << 18);
        let mut block = vec![0; 4096];
        put_padding(&mut block);
        let (format, ring) = sink.into_parts();
        Pages {
            ring,
            format,
            block,
        }
    }

    fn next_file(&mut self) {
        let Pages { ring, format, .. } = self;
        ring.keep_for_end(format.end_bytes());
        assert!(ring.next_file());
        format.begin(&mut |block| assert!(ring.append_block(block)));
        ring.note_first(FIRST_STAMP_US);
    }

    fn append(&mut self, bytes: usize) {
        for _ in 0..bytes / self.block.len() {
            assert!(self.ring.append_block(&self.block), "the file is full");
        }
        self.ring.commit();
    }
}

/// Neither a new file nor one that is recycled faults where it is written, from its beginning to
/// its end.
#[test]
fn no_page_of_a_file_faults() {
    let dir = common::temp_dir();
    let mut pages = Pages::new(dir.path(), 8 << 20);
    // Twice round the ring: of the files that are new, and of those that are not.
    let mut begun = 0;
    let mut round = |pages: &mut Pages| {
        until("a file without a fault", || {
            pages.next_file();
            begun += 1;
            // The first megabyte pays for what the test itself needs.
            pages.append(MIB);
            let before = page_faults();
            pages.append(6 * MIB);
            (page_faults() == before).then_some(())
        });
    };
    round(&mut pages);
    (0..2 * FILES).for_each(|_| round(&mut pages));
    assert!(
        begun < 4 * FILES,
        "{begun} files for {} without a fault",
        2 * FILES + 1
    );
}

/// What the kernel has written to disk faults at the next store, unless it was made ready again.
#[test]
fn pages_that_were_written_back_are_ready_again_before_they_are_needed() {
    let dir = common::temp_dir();
    let mut pages = Pages::new(dir.path(), 128 << 20);
    pages.next_file();
    pages.append(MIB);
    let live = until("the file has its name", || {
        let names = fs::read_dir(dir.path()).unwrap();
        let mut paths = names.map(|entry| entry.unwrap().path());
        paths.find(|path| path.to_string_lossy().contains(".live."))
    });
    until("three megabytes are written without a fault", || {
        fs::File::open(&live).unwrap().sync_all().unwrap();
        pages.append(MIB);
        thread::sleep(Duration::from_millis(250)); // the swapper's look, and then some
        let before = page_faults();
        pages.append(3 * MIB);
        (page_faults() == before).then_some(())
    });
}

/// One real datagram again and again, its packets numbered on, of so many interfaces in turn.
struct Repeated {
    datagram: Vec<u8>,
    /// Where in it numbers and interfaces' indexes are.
    places: Vec<(usize, usize)>,
    templates: Templates,
    sequence: u32,
    interfaces: u32,
    left: u32,
    control: Arc<Control>,
}

impl Repeated {
    fn new(interfaces: u32, datagrams: u32, control: &Arc<Control>) -> Repeated {
        let datagram = *real_datagrams()
            .iter()
            .max_by_key(|datagram| datagram.len())
            .unwrap();
        let mut places = Vec::new();
        for message in Messages::new(datagram).flatten() {
            let at = |value: &[u8]| value.as_ptr() as usize - datagram.as_ptr() as usize;
            let mut place = (None, None);
            for found in Attributes::new(message.body.get(4..).unwrap_or_default()).flatten() {
                match found.kind {
                    attribute::SEQ => place.0 = Some(at(found.value)),
                    attribute::IFINDEX_INDEV => place.1 = Some(at(found.value)),
                    _ => {}
                }
            }
            places.extend(place.0.zip(place.1));
        }
        Repeated {
            datagram: datagram.to_vec(),
            places,
            templates: Templates::default(),
            sequence: 0,
            interfaces,
            left: datagrams,
            control: Arc::clone(control),
        }
    }
}

impl Source for Repeated {
    type Batch<'a> = nflog::Batch<'a>;

    fn receive(&mut self, _wait: bool) -> io::Result<Arrival> {
        if self.left == 0 {
            self.control.stop();
            return Ok(Arrival::Nothing);
        }
        self.left -= 1;
        for (number, index) in &self.places {
            self.datagram[*number..number + 4].copy_from_slice(&self.sequence.to_be_bytes());
            let interface = 2 + self.sequence % self.interfaces;
            self.datagram[*index..index + 4].copy_from_slice(&interface.to_be_bytes());
            self.sequence += 1;
        }
        Ok(Arrival::Batch)
    }

    fn batch(&mut self) -> nflog::Batch<'_> {
        nflog::Batch::new(&self.datagram, &mut self.templates)
    }

    fn count(&self) -> Count {
        count(&self.datagram)
    }

    fn detach(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn dropped_datagrams(&self) -> u64 {
        0
    }

    fn truncated_datagrams(&self) -> u64 {
        0
    }
}

/// What a packet costs the capturing thread, by the number of interfaces that packets come by in
/// turn: `cargo test --release --test engine -- --ignored --nocapture interfaces`.
#[test]
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
#[ignore = "measures: of no use but in a release build, on a quiet machine"]
fn cost_by_number_of_interfaces() {
    let dir = common::temp_dir();
    for round in 0..5 {
        for interfaces in [1, 4, 5, 512] {
            let control = Arc::new(Control::new(None));
            let source = Repeated::new(interfaces, 5_000, &control);
            let packets = source.places.len() * 5_000;
            let sink = sink(dir.path(), pcapng(65_536), 32 << 20, 65_536);
            let capture = Capture::new(source, sink, control, Arc::new(Account::default()));
            // Of the capturing thread alone: files are made ready by another.
            let begun = clock_gettime(ClockId::ThreadCPUTime);
            let outcome = capture.run();
            let ended = clock_gettime(ClockId::ThreadCPUTime);
            let nanos =
                (ended.tv_sec - begun.tv_sec) * 1_000_000_000 + ended.tv_nsec - begun.tv_nsec;
            let cost = nanos as f64 / packets as f64;
            assert_eq!(outcome.tally.written, packets as u64);
            println!(
                "round {round}, {interfaces} interfaces: {cost:.1} ns a packet, numbering included"
            );
        }
    }
}

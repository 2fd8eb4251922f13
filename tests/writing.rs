//! Which way of writing costs least, answered by measurement (the question of the second seed's
//! last slide): the mapped file ring, `write(2)` of whole runs, and the same past the page cache.
//! `cargo test --release --test writing -- --ignored --nocapture`, on a quiet machine.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Instant;

use lwnflog::format::HEAD_BYTES;
use lwnflog::format::pcapng::block::put_padding;
use lwnflog::ring::{Access, Limits, NoSlot, Ring, RingConfig, SEGMENT_BYTES_SMALL, Store};

const FILE_BYTES: u64 = 200_000_000;
const FILES: usize = 4;
/// What is written at a time where it is `write(2)`.
const RUN_BYTES: usize = 1 << 20;
const ALIGN: usize = 4096;
/// Records of a batch.
const BATCH: u64 = 1000;

/// Takes records, one after the other, forever.
trait Way {
    fn record(&mut self, record: &[u8]);
    fn batch(&mut self) {}
    fn end(self);
}

/// lwnflog's: stores into mapped files, which another thread prepares and finishes.
struct Mapped(Ring);

impl Mapped {
    fn new(dir: &Path) -> Mapped {
        let store = Store::open(dir, "m", "pcapng", Access::default()).unwrap();
        let config = RingConfig {
            dir: dir.to_owned(),
            name: "m".into(),
            extension: "pcapng",
            file_bytes: FILE_BYTES,
            limits: Limits::files(FILES),
            segment_bytes: SEGMENT_BYTES_SMALL,
            padding_blocks: true,
        };
        let mut ring = Ring::open(config, store, mpsc::channel().0).unwrap();
        ring.take_over();
        assert!(ring.next_file());
        Mapped(ring)
    }
}

impl Way for Mapped {
    fn record(&mut self, record: &[u8]) {
        loop {
            match self.0.slot(record.len()) {
                Ok(mut slot) => {
                    let mut space = slot.space();
                    space.take_first(HEAD_BYTES);
                    space.put(&record[HEAD_BYTES..]);
                    slot.append(*record.first_chunk().unwrap());
                    break self.0.note_first(1);
                }
                Err(NoSlot::FileFull | NoSlot::NoFile) => {
                    assert!(self.0.next_file());
                }
            }
        }
    }

    fn batch(&mut self) {
        self.0.commit();
    }

    fn end(self) {
        self.0.close();
    }
}

/// `write(2)` of whole runs into files that are written over in turn; past the page cache, or not.
struct Written {
    files: Vec<File>,
    current: usize,
    in_file: u64,
    run: memmap2::MmapMut,
    filled: usize,
}

impl Written {
    fn new(dir: &Path, direct: bool) -> Written {
        let open = |number: usize| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true);
            if direct {
                options.custom_flags(libc::O_DIRECT);
            }
            options.open(dir.join(format!("w{number}"))).unwrap()
        };
        Written {
            files: (0..FILES).map(open).collect(),
            current: 0,
            in_file: 0,
            run: memmap2::MmapMut::map_anon(RUN_BYTES).unwrap(), // aligned to a page
            filled: 0,
        }
    }

    fn flush(&mut self) {
        use std::io::Seek;
        let bytes = self.filled / ALIGN * ALIGN;
        self.files[self.current]
            .write_all(&self.run[..bytes])
            .unwrap();
        self.run.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        self.in_file += bytes as u64;
        if self.in_file + RUN_BYTES as u64 > FILE_BYTES {
            self.current = (self.current + 1) % FILES;
            self.in_file = 0;
            self.files[self.current].rewind().unwrap();
        }
    }
}

impl Way for Written {
    fn record(&mut self, record: &[u8]) {
        if self.filled + record.len() > RUN_BYTES {
            self.flush();
        }
        self.run[self.filled..self.filled + record.len()].copy_from_slice(record);
        self.filled += record.len();
    }

    fn end(self) {}
}

/// Busy time of all processors so far, in hundredths of a second: user, nice, system, interrupts.
fn busy_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap())
        .collect();
    fields[0] + fields[1] + fields[2] + fields[5] + fields[6]
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn measure(name: &str, mut way: impl Way, ring_bytes: u64, packet_bytes: usize, packets: u64) {
    // A packet block around so many bytes.
    let mut record = vec![0; (packet_bytes + 44).next_multiple_of(4)];
    put_padding(&mut record);
    let record_bytes = record.len() as u64;
    let mut write = |packets: u64| {
        for number in 0..packets {
            record[16..24].copy_from_slice(&number.to_le_bytes());
            way.record(&record);
            if number % BATCH == 0 {
                way.batch();
            }
        }
    };
    // Once round, so that each file has been there.
    write((ring_bytes + FILE_BYTES) / record_bytes);
    let (busy, begun) = (busy_ticks(), Instant::now());
    write(packets);
    let wall = begun.elapsed();
    let busy = busy_ticks() - busy;
    way.end();
    println!(
        "{packet_bytes:>5} bytes  {name:<22} machine busy {:>6.0} ns, wall {:>6.0} ns a packet, {:.2} GB/s",
        busy as f64 * 1e7 / packets as f64,
        wall.as_nanos() as f64 / packets as f64,
        (packets * record_bytes) as f64 / wall.as_nanos() as f64,
    );
}

#[test]
#[ignore = "measures: of no use but in a release build, on a quiet machine"]
fn mapped_written_or_direct() {
    for round in 0..3 {
        println!("round {round}");
        for (packet_bytes, packets) in [(64, 20_000_000), (1500, 2_000_000)] {
            let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            measure(
                "mapped file ring",
                Mapped::new(dir.path()),
                FILE_BYTES * FILES as u64,
                packet_bytes,
                packets,
            );
            let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            measure(
                "write of 1 MiB",
                Written::new(dir.path(), false),
                FILE_BYTES * FILES as u64,
                packet_bytes,
                packets,
            );
            let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            measure(
                "O_DIRECT of 1 MiB",
                Written::new(dir.path(), true),
                FILE_BYTES * FILES as u64,
                packet_bytes,
                packets,
            );
        }
    }
}

/// A file's size: what a smaller or larger one costs, by the thesis's question (3.3.1).
#[test]
#[ignore = "measures: of no use but in a release build, on a quiet machine"]
fn the_size_of_a_file() {
    const RING_MB: u64 = 1000;
    for file_mb in [1, 4, 20, 200, 500] {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let store = Store::open(dir.path(), "m", "pcapng", Access::default()).unwrap();
        let config = RingConfig {
            dir: dir.path().to_owned(),
            name: "m".into(),
            extension: "pcapng",
            file_bytes: file_mb * 1_000_000,
            limits: Limits::files(usize::try_from(RING_MB / file_mb).unwrap()),
            segment_bytes: SEGMENT_BYTES_SMALL,
            padding_blocks: true,
        };
        let mut ring = Ring::open(config, store, mpsc::channel().0).unwrap();
        ring.take_over();
        assert!(ring.next_file());
        measure(
            &format!("files of {file_mb} MB"),
            Mapped(ring),
            RING_MB * 1_000_000,
            64,
            20_000_000,
        );
    }
}

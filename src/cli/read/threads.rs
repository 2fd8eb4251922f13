//! What is not followed is read by several threads.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};

use super::out::{Output, named};
use super::print::Lines;
use super::time::Zone;
use super::{ReadArgs, all_read, anonymizer, inputs, kind, tell, tell_passed, went};
use crate::read::Record;
use crate::read::anonymize::Anonymizer;
use crate::read::chain::Merged;
use crate::read::piece::Make;
use crate::read::plan::Selection;
use crate::read::write::{Kind, Writer, encode};

/// Makes nothing of a packet.
struct Counted;

impl Make for Counted {
    const MARKS: bool = false;

    fn make(&mut self, _: &Record<'_>, _: u32, _: &mut Vec<u8>) {}
}

/// The same, where it matters when it is enough.
struct Marked;

impl Make for Marked {
    fn make(&mut self, _: &Record<'_>, _: u32, _: &mut Vec<u8>) {}
}

/// Makes the record of a packet in a file.
struct Encoded {
    kind: Kind,
    anonymizer: Option<Anonymizer>,
}

impl Make for Encoded {
    fn make(&mut self, record: &Record<'_>, interface: u32, out: &mut Vec<u8>) {
        match &mut self.anonymizer {
            None => encode(self.kind, record, interface, out),
            Some(anonymizer) => encode(self.kind, &anonymizer.record(record), interface, out),
        }
    }
}

pub(super) fn run(
    args: &ReadArgs,
    selection: Selection,
    places: &[PathBuf],
    zone: Zone,
) -> Result<()> {
    let to = args.write.as_deref().unwrap_or(Path::new("-"));
    let said = || named(to);
    let mut output = Output::create(to, &inputs(args, places))?;
    let mut merged = Merged::select(places, selection)?;
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or_else(processors, usize::from);
    let most = args.packets.unwrap_or(u64::MAX);
    let mut left = most;
    // How many of so many are taken still.
    let mut some = |packets: usize| {
        let some = packets.min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= some as u64;
        (some, left != 0)
    };
    let mut told = Ok(());
    let done = if let Some(path) = &args.write {
        let mut writer = Writer::begin(&mut output, kind(path)).with_context(said)?;
        let anonymizer = anonymizer(args)?;
        let make = || Encoded {
            kind: kind(path),
            anonymizer: anonymizer.clone(),
        };
        let done = merged.scan(threads, make, |piece, mut marks| {
            let (count, goes_on) = some(marks.len());
            marks.end = marks.start + count;
            if anonymizer.is_some() {
                for interface in &mut piece.interfaces {
                    *interface = Anonymizer::interface(interface);
                }
            }
            told = writer.write_encoded(piece, marks);
            told.is_ok() && goes_on
        });
        told = told.and_then(|()| writer.flush());
        done
    } else if args.count && args.packets.is_none() {
        merged.scan(threads, || Counted, |_, _| true)
    } else if args.count {
        merged.scan(threads, || Marked, |_, marks| some(marks.len()).1)
    } else {
        let lines = Lines::new(args, zone);
        merged.scan(
            threads,
            || lines.clone(),
            |piece, mut marks| {
                let (count, goes_on) = some(marks.len());
                marks.end = marks.start + count;
                // Few lines of many packets are not kept from who waits for them.
                let lines = &piece.out[piece.bytes(marks)];
                told = output.write_all(lines).and_then(|()| output.flush());
                told.is_ok() && goes_on
            },
        )
    };
    let taken = if args.count && args.packets.is_none() {
        done.taken
    } else {
        most - left
    };
    if args.count {
        told = writeln!(output, "{taken}");
    }
    let faulty = tell(&mut merged);
    tell_passed(args, &merged);
    // Nothing that could be read takes no other's place.
    if !(faulty && taken == 0 && args.write.is_some()) {
        told = told.and_then(|()| output.finish());
    }
    went(told).with_context(said)?;
    all_read(faulty)
}

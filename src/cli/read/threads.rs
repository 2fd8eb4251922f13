//! What is not followed is read by several threads.

use std::io::{self, IsTerminal, Write};
use std::thread;

use anyhow::Result;

use super::print::Lines;
use super::time::Zone;
use super::{ReadArgs, anonymizer, kind, tell_faults, went, writer};
use crate::read::Record;
use crate::read::anonymize::Anonymizer;
use crate::read::chain::Merged;
use crate::read::piece::Make;
use crate::read::write::{Kind, encode};

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

pub(super) fn run(args: &ReadArgs, mut merged: Merged, zone: Zone) -> Result<()> {
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or_else(processors, usize::from);
    let mut left = args.packets.unwrap_or(u64::MAX);
    // How many of so many are taken still.
    let mut some = |packets: usize| {
        let some = packets.min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= some as u64;
        (some, left != 0)
    };
    let mut told = Ok(());
    let done = if let Some(path) = &args.write {
        let mut writer = writer(path)?;
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
        let mut to = io::stdout();
        let at_once = to.is_terminal();
        merged.scan(
            threads,
            || lines.clone(),
            |piece, mut marks| {
                let (count, goes_on) = some(marks.len());
                marks.end = marks.start + count;
                told = to.write_all(&piece.out[piece.bytes(marks)]);
                if at_once && told.is_ok() {
                    told = to.flush();
                }
                told.is_ok() && goes_on
            },
        )
    };
    if !went(told)? {
        return Ok(());
    }
    if args.count {
        let taken = if args.packets.is_none() {
            done.taken
        } else {
            args.packets.unwrap_or(0) - left
        };
        println!("{taken}");
    }
    tell_faults(&mut merged)
}

//! Where packets go: a format and a ring, and the blocks that every file begins and ends with.

use crate::format::{Format, LinkType};
use crate::packet::Packet;
use crate::ring::Ring;

/// Where packets go.
#[derive(Debug)]
pub struct Writer<F> {
    /// The format of its files.
    pub format: F,
    /// Its files.
    pub ring: Ring,
    /// What records hold.
    pub link: LinkType,
    /// Bytes of a frame that are written at the most.
    pub snaplen: u32,
}

impl<F: Format> Writer<F> {
    /// Declares the interface of a packet in the live file: its block stands before its first record there. Where
    /// there is no room for it, in the next file. `None` where there is no file.
    #[cold]
    pub(super) fn declare(&mut self, packet: &Packet<'_>) -> Option<usize> {
        for last_try in [false, true] {
            let block = self.format.declare(packet);
            self.ring.keep_for_end(self.format.end_bytes());
            if self.ring.append_block(&block) {
                return self.format.interface(packet.ifindex());
            }
            if last_try || !self.next_file() {
                break;
            }
        }
        None
    }

    /// Ends the live file, if there is one, and begins the next.
    #[cold]
    pub(super) fn next_file(&mut self) -> bool {
        self.append_end();
        self.ring.next_file() && self.begin_file()
    }

    /// Ends the live file, if it holds a packet, and begins the next. Where that is not there yet, the next packet
    /// waits for it.
    #[cold]
    pub(super) fn rotate(&mut self) {
        if self.ring.has_records() {
            self.append_end();
            if self.ring.rotate() {
                self.begin_file();
            }
        }
    }

    fn begin_file(&mut self) -> bool {
        let Writer { format, ring, .. } = self;
        ring.keep_for_end(format.end_bytes());
        let mut fits = true;
        format.begin(&mut |block| fits &= ring.append_block(block));
        fits
    }

    /// Appends the blocks that end a file.
    pub(super) fn append_end(&mut self) {
        let Writer { format, ring, .. } = self;
        if ring.has_records() {
            format.end(&mut |block| ring.append_end(block));
        }
    }
}

//! The account: what became of every packet.
//!
//! The capturing thread counts in a [`Tally`] of its own and publishes it after each batch into an
//! [`Account`], from which any thread may read. What the thread cannot know — what the rule
//! counted, what the kernel failed to allocate — is added by whoever reports ([`snapshot`]).

pub mod counters;
pub mod drops;
pub mod report;
pub mod snapshot;
pub mod unseen;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Figures of one source, as its capturing thread counts them.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same figures, to be read by other threads. All of them are of one moment only when
        /// the capturing thread has ended; while it runs each is exact for itself.
        #[derive(Debug, Default)]
        #[repr(align(128))] // cache lines of its own: two threads' accounts do not meet
        pub struct Account {
            $($name: AtomicU64,)*
            detached: AtomicBool,
            published: AtomicU64,
            explained_datagrams: AtomicU64,
        }

        impl Account {
            /// Publishes a tally. Only the capturing thread calls this.
            #[inline]
            pub fn publish(&self, tally: &Tally) {
                $(self.$name.store(tally.$name, Ordering::Relaxed);)*
                let published = self.published.load(Ordering::Relaxed) + 1;
                self.published.store(published, Ordering::Release);
            }

            /// Reads the figures.
            pub fn read(&self) -> Tally {
                Tally { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl std::ops::AddAssign for Tally {
            fn add_assign(&mut self, other: Tally) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

impl Account {
    /// Says that no packet comes to the source any more; some may be there still.
    pub fn set_detached(&self) {
        self.detached.store(true, Ordering::Release);
    }

    /// How often a tally has been published.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Says how many of the datagrams that the socket dropped show as gaps.
    pub fn set_explained_datagrams(&self, datagrams: u64) {
        self.explained_datagrams.store(datagrams, Ordering::Release);
    }

    /// How many of the datagrams that the socket dropped show as gaps.
    pub fn explained_datagrams(&self) -> u64 {
        self.explained_datagrams.load(Ordering::Acquire)
    }

    /// Whether the source is detached.
    pub fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }
}

figures! {
    /// Packets that arrived here.
    received,
    /// Packets recorded.
    written,
    /// Packets counted and thrown away (`--discard`).
    discarded,
    /// Packets that the socket had no room for: the gaps in the sequence numbers.
    overrun,
    /// Packets that found no file: none in time, disk full, or a page that could not be stored.
    writer,
    /// Packets that are not of the family that is captured.
    other_family,
    /// Messages that could not be read, each taken for one packet. What else the datagram held
    /// behind one shows as a gap in the sequence numbers.
    malformed,
    /// Packets that came after `--count` was reached.
    beyond_count,
    /// Packets that came while the capture was paused.
    paused,
    /// Sequence numbers used up, seen or missed.
    numbered,
    /// Packets without the kernel's time stamp: they carry the time of their arrival here.
    unstamped,
    /// Bytes of records and blocks in files.
    bytes,
    /// Batches that held packets.
    batches,
    /// Of the packets recorded, those in files that others then removed, cut or overwrote.
    taken,
    /// Of the packets recorded, those that a stream's reader has not taken yet.
    unread,
    /// Times the next file was late.
    stalls,
    /// How long the capturing thread waited for files in sum, microseconds.
    stalled_us,
    /// Files begun.
    files_begun,
    /// Packets that the source itself has counted, where it does (the hook).
    detected,
    /// Of them those that its buffer had no room for.
    dropped_by_source,
    /// Of them those on processors that have no buffer.
    dropped_no_ring,
    /// Of them those that came while the buffer was being written to.
    dropped_nested,
    /// Of them those in what could not be read.
    unreadable,
    /// Of them those of another interface.
    left_interface,
    /// Of them those without the mark.
    left_mark,
    /// Of them those that the sample passes over.
    left_sample,
    /// Of them those of connections that have had their bytes.
    left_cutoff,
    /// Of them those that came while the capture was paused.
    left_paused,
}

impl Tally {
    /// Packets that arrived and are not recorded on purpose.
    pub fn skipped(&self) -> u64 {
        self.other_family + self.malformed + self.beyond_count + self.paused
    }
}

/// Follows the sequence numbers of one source. Every gap is a loss.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    expected: u32,
}

impl Sequence {
    /// A source whose first packet has the number `first`.
    pub fn new(first: u32) -> Self {
        Sequence { expected: first }
    }

    /// Takes the numbers from `first` on, `count` of them, and says how many are missing before.
    #[inline]
    pub fn take(&mut self, first: u32, count: u32) -> u64 {
        let missing = first.wrapping_sub(self.expected);
        self.expected = first.wrapping_add(count);
        // The kernel never steps back; half the number space is not a gap but a step back.
        if missing > u32::MAX / 2 {
            0
        } else {
            u64::from(missing)
        }
    }

    /// Whether `number` is the next one: nothing is missing before it.
    #[inline]
    pub fn is_next(&self, number: u32) -> bool {
        number == self.expected
    }

    /// Passes over the next number.
    #[inline]
    pub fn skip_one(&mut self) {
        self.expected = self.expected.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_losses_also_over_the_wrap() {
        let mut sequence = Sequence::new(0);
        assert_eq!(sequence.take(0, 1), 0);
        assert_eq!(sequence.take(1, 1000), 0);
        assert_eq!(sequence.take(1011, 1), 10);
        let mut sequence = Sequence::new(u32::MAX);
        assert_eq!(sequence.take(u32::MAX, 1), 0);
        assert_eq!(sequence.take(2, 1), 2);
    }

    #[test]
    fn an_account_shows_what_was_published() {
        let account = Account::default();
        let tally = Tally {
            received: 3,
            other_family: 1,
            malformed: 1,
            written: 1,
            ..Tally::default()
        };
        account.publish(&tally);
        assert_eq!(account.read(), tally);
        assert_eq!(tally.received, tally.written + tally.skipped());
    }
}

//! What other threads ask of the capturing threads: stop, go on to the next file, a number of packets.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What other threads ask of the capturing threads. One value serves all of them.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    /// Grows by one with each request to go on to the next file.
    rotations: AtomicU64,
    /// Grows by one when interfaces have come, gone or changed.
    link_changes: AtomicU64,
    /// Reaching the count does not stop: somebody watches for it, and has something to do first.
    watched: bool,
    /// Packets that may still be recorded, plus one; 0 is no limit.
    allowance: AtomicU64,
}

impl Control {
    /// A control that lets `count` packets be recorded in sum, or any number.
    pub fn new(count: Option<u64>) -> Self {
        let control = Control::default();
        control.allowance.store(
            count.map_or(0, |count| count.saturating_add(1)),
            Ordering::Relaxed,
        );
        control
    }

    /// As [`Control::new`], but reaching the count stops nothing: whoever watches
    /// [`Control::count_reached`] calls [`Control::stop`] when it is ready. Until then packets are
    /// received and skipped.
    pub fn watched(count: Option<u64>) -> Self {
        Control {
            watched: true,
            ..Control::new(count)
        }
    }

    /// Whether as many packets are recorded as were asked for.
    pub fn count_reached(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 1
    }

    /// Asks the capturing threads to detach, take what is left and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks each capturing thread to go on to the next file, if the live one holds packets.
    pub fn rotate(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that interfaces have come, gone or changed: names are to be looked up again.
    pub fn links_changed(&self) {
        self.link_changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often interfaces have changed.
    #[inline]
    pub(super) fn link_changes(&self) -> u64 {
        self.link_changes.load(Ordering::Relaxed)
    }

    /// Whether any number of packets may be recorded.
    #[inline]
    pub(super) fn unlimited(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    /// Takes the right to record one packet.
    #[inline]
    pub(super) fn allow_one(&self) -> bool {
        self.allow(1) == 1
    }

    /// Takes the right to record up to `wanted` packets, and says of how many. The one who takes
    /// the last asks all to stop, if nobody watches for that.
    #[inline]
    pub(super) fn allow(&self, wanted: u64) -> u64 {
        if self.unlimited() {
            return wanted;
        }
        let take = |left: u64| (left > 1).then(|| left - wanted.min(left - 1));
        match self
            .allowance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(before) => {
                if wanted >= before - 1 && !self.watched {
                    self.stop();
                }
                wanted.min(before - 1)
            }
            Err(_) => 0,
        }
    }

    /// How many requests to go on to the next file there have been.
    #[inline]
    pub(super) fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }
}

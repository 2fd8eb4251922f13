//! What a service manager is told (sd_notify(3)); nothing where there is none.

use sd_notify::NotifyState;

/// All that may fail has succeeded.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The main thread is alive: called each second.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The capture is ending.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Why it ended before it was asked to, for `systemctl status`.
pub fn failed(error: &str) {
    tell(&[NotifyState::Status(error)]);
}

fn tell(what: &[NotifyState<'_>]) {
    // Nobody listening is no reason not to capture.
    let _ = sd_notify::notify(what);
}

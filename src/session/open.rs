//! What a capture opens: the ring and the source of each number.

use super::SessionError;
use super::files::{extension, ring_config};
use crate::ring::{Notices, Ring, Store, StoreError, check_space};
use crate::session::settings::Settings;
use crate::source::Target;
use crate::source::nflog::{Group, GroupConfig};
use crate::source::nfqueue::{Queue, QueueConfig};

/// An open source of either kind.
pub(super) enum Opened {
    Group(Group),
    Queue(Queue),
}

/// The ring of each number; none of them with `--discard`. All of them have to fit the disk
/// together. No file that is there already is touched.
pub(super) fn open_rings(
    settings: &Settings,
    notices: &Notices,
) -> Result<Vec<Option<Ring>>, StoreError> {
    let Some(output) = &settings.output else {
        return Ok(settings.numbers.iter().map(|_| None).collect());
    };
    let mut stores = Vec::new();
    for number in &settings.numbers {
        let store = Store::open(
            &output.dir,
            &settings.ring_name(*number),
            extension(output),
            output.access,
        )?;
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

/// The source of one number, bound and configured.
pub(super) fn open_source(settings: &Settings, number: u16) -> Result<Opened, SessionError> {
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

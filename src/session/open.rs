//! What a capture opens: the ring and the source of each number.

use super::SessionError;
use super::files::{extension, ring_config};
use crate::ring::{Notices, Ring, Store, StoreError, check_space};
use crate::session::settings::{Settings, SourceSettings};
use crate::source::hook::{Cutoff, Hook, HookConfig};
use crate::source::nflog::{Group, GroupConfig};
use crate::source::nfqueue::{Queue, QueueConfig};
use crate::source::{SourceError, SourceName, Target};

/// An open source of any kind.
pub(super) enum Opened {
    Group(Group),
    Queue(Queue),
    Hook(Box<Hook>),
}

/// The ring of each number; none of them with `--discard`. All of them have to fit the disk
/// together. No file that is there already is touched.
pub(super) fn open_rings(
    settings: &Settings,
    notices: &Notices,
) -> Result<Vec<Option<Ring>>, StoreError> {
    let Some(output) = &settings.output else {
        return Ok(settings.names().iter().map(|_| None).collect());
    };
    let mut stores = Vec::new();
    for name in settings.names() {
        let store = Store::open(
            &output.dir,
            &name.file_name(),
            extension(output),
            output.access,
        )?;
        // Classic pcap has no index, and nothing to tell a file that others wrote to.
        stores.push(
            if output.index && output.format == super::settings::FileFormat::PcapNg {
                store.with_index()
            } else {
                store
            },
        );
    }
    check_space(&stores, output.limits, output.file_bytes)?;
    let rings = settings.names().into_iter().zip(stores);
    rings
        .map(|(name, store)| {
            let config = ring_config(settings, output, name);
            Ring::open(config, store, notices.clone()).map(Some)
        })
        .collect()
}

/// The sources, each bound and configured, or attached.
pub(super) fn open_sources(settings: &Settings) -> Result<Vec<(SourceName, Opened)>, SessionError> {
    match &settings.source {
        SourceSettings::Numbers(target, numbers) => numbers
            .iter()
            .map(|number| {
                let opened = open_number(settings, *target, *number)?;
                Ok((SourceName::Number(*target, *number), opened))
            })
            .collect(),
        SourceSettings::Hook(options) => {
            let config = HookConfig {
                priority: options.priority,
                interfaces: options.interfaces.clone(),
                mark: options.mark,
                sample: options.sample,
                cutoff: options.cutoff_bytes.map(Cutoff::new),
                family: settings.family,
                drop: options.drop,
                buffer_bytes: settings.buffer_bytes,
                ..HookConfig::new(options.hook, settings.copy_range_bytes())
            };
            let hook = Box::new(Hook::open(config)?);
            Ok(vec![(SourceName::Hook(options.hook), Opened::Hook(hook))])
        }
    }
}

fn open_number(settings: &Settings, target: Target, number: u16) -> Result<Opened, SourceError> {
    let copy_range_bytes = settings.copy_range_bytes();
    match target {
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

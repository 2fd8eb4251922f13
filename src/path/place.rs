//! Where a record was taken.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::tracker::shown_name;
use crate::nft::At;
use crate::read::Record;

/// What the description of a hook's interface begins with.
const HOOK: &str = "Netfilter hook ";
/// Places of other names than hooks' that are told apart.
const OTHERS_MAX: usize = 256;
/// `epb_flags`: a packet on its way out.
const OUTBOUND: u32 = 2;

/// Where a packet was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// At a hook.
    At(At),
    /// By a rule with another prefix, or a capture that does not say its hook.
    Other(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::At(at) => at.fmt(f),
            Place::Other(name) => f.write_str(name),
        }
    }
}

impl Place {
    /// The order in which packets come to hooks. One that this host sends may come back to it by its loopback
    /// interface; all others leave at postrouting.
    pub(super) fn rank(&self, sent: bool) -> Option<u8> {
        let Place::At(at) = self else {
            return None;
        };
        Some(match at {
            At::Output => 0,
            At::Postrouting if sent => 1,
            At::Prerouting => 2,
            At::Input | At::Forward => 3,
            At::Accepted => 4,
            At::Postrouting => 5,
        })
    }
}

/// Finds places, and keeps the names of those that are no hooks'.
#[derive(Debug, Default)]
pub(super) struct Places {
    others: HashMap<Arc<str>, Place>,
}

impl Places {
    pub(super) fn of(&mut self, record: &Record<'_>) -> Place {
        let description = &record.interface.description;
        // `NFLOG group 5, port of the bridge br0`
        let source = description.split(',').next().unwrap_or_default();
        let name = match record.prefix() {
            "" => source.strip_prefix(HOOK).unwrap_or(source),
            prefix => prefix,
        };
        let name = &*shown_name(name);
        if let Ok(at) = name.parse() {
            return Place::At(at);
        }
        if let Some(known) = self.others.get(name) {
            return known.clone();
        }
        if name.is_empty() || self.others.len() >= OTHERS_MAX {
            return Place::Other("elsewhere".into());
        }
        let name: Arc<str> = name.into();
        let place = Place::Other(Arc::clone(&name));
        self.others.insert(name, place.clone());
        place
    }
}

/// Whether a record's time is the kernel's: at the hooks on the way out it gives rules' messages none, and
/// they have that of their arrival.
pub(super) fn is_timed(record: &Record<'_>) -> bool {
    record.flags & 3 != OUTBOUND || record.interface.description.starts_with(HOOK)
}

/// Whether only some packets were taken here, and others on purpose not.
pub(super) fn is_sampled(record: &Record<'_>) -> bool {
    record.interface.description.contains(", 1 packet of ")
}

//! The interfaces that a file declares, for readers that begin in its middle.

use std::sync::{Arc, Mutex, PoisonError};

use super::Packets;
use crate::read::handle::Handle;
use crate::read::{Interface, ReadError};

/// What is known of a file's interfaces. Shared by all who read parts of it: what comes before a
/// place is looked through once.
#[derive(Debug)]
pub struct Declared {
    handle: Arc<Handle>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// All that are declared before this place are known.
    up_to: u64,
    interfaces: Vec<Arc<Interface>>,
    /// Where each is declared.
    places: Vec<u64>,
    /// The first place that was damaged.
    damaged_at: Option<u64>,
}

/// Interfaces, where they were declared, and whether something before was damaged.
type Before = (Vec<Arc<Interface>>, Vec<u64>, bool);

impl Declared {
    /// Of a file of which nothing is known.
    pub fn new(handle: &Arc<Handle>) -> Declared {
        Declared {
            handle: Arc::clone(handle),
            known: Mutex::default(),
        }
    }

    /// Of a file that was read so far, from its start on. `None` of a stream.
    pub fn so_far(packets: &Packets) -> Option<Declared> {
        let first = packets.damage.first();
        Some(Declared {
            handle: Arc::clone(packets.handle()?),
            known: Mutex::new(Known {
                up_to: packets.position(),
                interfaces: packets.interfaces.clone(),
                places: packets.places.clone(),
                damaged_at: first.map(|damage| damage.from),
            }),
        })
    }

    /// Of a file of which is known where they are declared. `None` where they are not there.
    pub fn at(handle: &Arc<Handle>, places: &[u64]) -> Option<Declared> {
        let mut packets = Packets::of_handle(handle).ok()?;
        for place in places {
            packets.seek(*place).ok()?;
            packets.declare_here().then_some(())?;
        }
        let known = Known {
            up_to: u64::MAX,
            interfaces: packets.interfaces,
            places: packets.places,
            damaged_at: None,
        };
        Some(Declared {
            handle: Arc::clone(handle),
            known: Mutex::new(known),
        })
    }

    /// All that are known. Those of a file's start are, once its first packet was read.
    pub fn known(&self) -> (Vec<Arc<Interface>>, Vec<u64>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.interfaces.clone(), known.places.clone())
    }

    /// Those that are declared before a place, and where.
    ///
    /// # Errors
    /// What the system says.
    pub fn before(&self, place: u64) -> Result<Before, ReadError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.up_to < place {
            let mut whole = Packets::of_handle(&self.handle)?;
            if known.up_to != 0 {
                whole.seek(known.up_to)?;
                whole.sought = false;
                (whole.interfaces, whole.places) = (known.interfaces.clone(), known.places.clone());
                whole.was_damaged = known.damaged_at.is_some();
            }
            whole.one_section = true;
            while whole.position() < place && whole.advance()? {}
            let first = whole.damage.first().map(|damage| damage.from);
            known.up_to = whole.position().max(place);
            known.damaged_at = known.damaged_at.or(first);
            (known.interfaces, known.places) = (whole.interfaces, whole.places);
        }
        let count = known.places.partition_point(|at| *at < place);
        let damaged = known.damaged_at.is_some_and(|at| at < place);
        let interfaces = known.interfaces.get(..count).unwrap_or_default();
        Ok((interfaces.to_vec(), known.places[..count].to_vec(), damaged))
    }
}

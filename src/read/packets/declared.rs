//! The interfaces that a file declares, for readers that begin in its middle.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Packets;
use crate::read::{Interface, ReadError};

/// What is known of a file's interfaces. Shared by all who read parts of it: what comes before a
/// place is looked through once.
#[derive(Debug)]
pub struct Declared {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// All that are declared before this place are known.
    up_to: u64,
    interfaces: Vec<Interface>,
    /// Where each is declared.
    places: Vec<u64>,
}

impl Declared {
    /// Of a file of which nothing is known.
    pub fn new(path: &Path) -> Declared {
        Declared {
            path: path.to_owned(),
            known: Mutex::default(),
        }
    }

    /// Of a file that was read so far, from its start on.
    pub fn so_far(packets: &Packets) -> Declared {
        Declared {
            path: packets.path().to_owned(),
            known: Mutex::new(Known {
                up_to: packets.position(),
                interfaces: packets.interfaces.clone(),
                places: packets.places.clone(),
            }),
        }
    }

    /// Of a file of which is known where they are declared. `None` where they are not there.
    pub fn at(path: &Path, places: &[u64]) -> Option<Declared> {
        let mut packets = Packets::open(path).ok()?;
        for place in places {
            packets.seek(*place).ok()?;
            packets.declare_here().then_some(())?;
        }
        let known = Known {
            up_to: u64::MAX,
            interfaces: packets.interfaces,
            places: packets.places,
        };
        Some(Declared {
            path: path.to_owned(),
            known: Mutex::new(known),
        })
    }

    /// All that are known. Those of a file's start are, once its first packet was read.
    pub fn known(&self) -> (Vec<Interface>, Vec<u64>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.interfaces.clone(), known.places.clone())
    }

    /// Those that are declared before a place, and where.
    ///
    /// # Errors
    /// What the system says, and damage before that place.
    pub fn before(&self, place: u64) -> Result<(Vec<Interface>, Vec<u64>), ReadError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.up_to < place {
            let mut whole = Packets::open(&self.path)?;
            whole.seek(known.up_to)?;
            whole.sought = false;
            (whole.interfaces, whole.places) = (known.interfaces.clone(), known.places.clone());
            while whole.position() < place && whole.advance()? {}
            known.up_to = place;
            (known.interfaces, known.places) = (whole.interfaces, whole.places);
        }
        let count = known.places.partition_point(|at| *at < place);
        let interfaces = known.interfaces.get(..count).unwrap_or_default();
        Ok((interfaces.to_vec(), known.places[..count].to_vec()))
    }
}

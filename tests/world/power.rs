//! File systems that become read-only, and machines that lose power.

use crate::play::{Outcome, Play};
use crate::steps::Step;
use crate::world::Checked;

pub fn act(_play: &mut Play, _step: &Step) -> Checked<Outcome> {
    Ok(Outcome::Nothing)
}

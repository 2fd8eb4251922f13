//! Each packet's way: where a capture with rules or programs at several hooks has seen it, and where last.
//!
//! ```text
//!   records --> Key (what no hook changes) --> Tracker --> Packet (its sights) --> Ways (how many went which)
//! ```
//!
//! `lwnflog rules --trace` prints such rules. Where a record was taken, its prefix says (each rule's is the name
//! of its hook), or else its interface's description (`Netfilter hook input`). A prefix that is no hook's name
//! is a place, too: that of the rule which logs with it.

mod full;
mod key;
mod place;
mod tracker;
mod ways;

pub use place::Place;
pub use tracker::{Packet, Seen, Sight, Tracker};
pub use ways::Ways;

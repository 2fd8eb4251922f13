//! Network namespaces, veth pairs and a packet sender: for the demo, the tests and the benchmark.
//!
//! ```text
//!   namespace A                         namespace B
//!   [ Traffic::send ] -- veth "tx" ==== veth "rx" -- [ nft rules, lwnflog, tcpdump, ... ]
//!     AF_PACKET, sendmmsg                             children started by Namespace::command
//! ```
//!
//! The namespaces have no names: descriptors hold them, so they and everything in them vanish with
//! the process, however it ends. Nothing outside them is touched.
//!
//! ```no_run
//! use lwnflog::lab::{self, Lab, Traffic};
//!
//! # fn main() -> Result<(), lab::LabError> {
//! lab::enter_user_namespace()?; // first thing in `main`: a no-op for root
//! let lab = Lab::new()?;
//! let sent = Traffic::new(64, 10_000).send(&lab, None)?;
//! assert_eq!(lab.receiver_stats()?.rx_packets, sent.packets);
//! # Ok(())
//! # }
//! ```

mod error;
mod frames;
mod link;
mod namespace;
mod pair;
#[cfg(feature = "bench")]
mod replay;
mod sender;
#[cfg(feature = "bench")]
mod trace;

pub use error::LabError;
pub use frames::{FrameTemplate, MIN_FRAME_LEN, Marker};
pub use link::{Endpoint, InterfaceStats, add_veth, interface_stats};
pub use namespace::{Namespace, UserNamespace, enter_user_namespace};
pub use pair::{Lab, RX, TX};
#[cfg(feature = "bench")]
pub use replay::Replay;
pub use sender::{Progress, Sent, Traffic};
#[cfg(feature = "bench")]
pub use trace::{
    LINKTYPE_ETHERNET, LINKTYPE_IPV4, LINKTYPE_NFLOG, LINKTYPE_RAW, Record, read_trace,
};

//! Readers that exist for the comparison only, run as child processes like any other tool.
//!
//! `null` receives and counts. `ring` feeds lwnflog's own capture loop and ring writer from another
//! hook: the protocol handler (`packet`: TPACKET_V3) or the NIC driver (`xdp`: AF_XDP).

pub(crate) mod null;
mod packet;
pub(crate) mod ring;
mod xdp;

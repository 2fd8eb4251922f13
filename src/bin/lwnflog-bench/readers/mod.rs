//! Readers that exist for the comparison only, run as child processes like any other tool.
//!
//! `null` receives and counts. `ring` feeds lwnflog's own capture loop and ring writer from another
//! hook: the protocol handler (`packet`: TPACKET_V3).

pub(crate) mod null;
mod packet;
pub(crate) mod ring;

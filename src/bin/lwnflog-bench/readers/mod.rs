//! Readers that exist for the comparison only, run as child processes like any other tool.
//!
//! `null` receives and counts. A reader of the protocol handler hook (TPACKET_V3) and one of the
//! driver hook (AF_XDP) that feed lwnflog's own ring writer belong here too: each gets a file here
//! for its loop, a hidden command in `cli.rs`, and a file in `tools/` that runs it.

pub(crate) mod null;

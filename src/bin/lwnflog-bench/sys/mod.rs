//! The benchmark's own system calls: AF_PACKET rings and AF_XDP, which lwnflog itself does not use.
#![allow(
    unsafe_code,
    reason = "the one place of the benchmark that talks to the kernel by pointer"
)]

pub(crate) mod bpf;
pub(crate) mod packet_ring;
pub(crate) mod xdp;

//! The only unsafe code of the crate: thin, safe wrappers over system calls and mapped memory.
//!
//! Each wrapper takes and returns what safe Rust can check (borrowed descriptors, slices, owned
//! mappings) and says in each unsafe block which conditions of the callee hold, and why.
#![allow(
    unsafe_code,
    reason = "this is the one place that talks to kernel and processor by pointer"
)]

pub mod buffer;
pub mod bus;
pub mod capabilities;
pub mod cgroup;
pub mod cpu;
pub mod file;
pub mod group;
pub mod hook;
pub mod inject;
pub mod mapping;
pub mod mmsg;
pub mod netlink;
pub mod netns;
mod prefetch;
pub mod space;
pub mod standard;
pub mod tun;

//! The only unsafe code of the crate: thin, safe wrappers over system calls and mapped memory.
#![allow(
    unsafe_code,
    reason = "this is the one place that talks to the kernel by pointer"
)]

pub mod cpu;
pub mod inject;
pub mod netns;

//! What a hook is made of, from what was asked for: checked, and measured.

use std::os::fd::OwnedFd;

use super::btf::Btf;
use super::layout::{self, BYTES, INTERFACES_MAX};
use super::program::{self, Types};
use super::ring::Geometry;
use super::{
    COPY_RANGE_MAX_BYTES, COPY_RANGE_MIN, Cutoff, HookConfig, HookError, NAME, PAGE,
    RING_BYTES_MAX, RING_BYTES_MIN, processors,
};
use crate::sys::hook as bpf;

/// What cannot be as it was asked for.
pub(super) fn check(config: &HookConfig) -> Result<(), HookError> {
    if processors::is_realtime() {
        return Err(HookError::Realtime);
    }
    if config.interfaces.len() > INTERFACES_MAX {
        return Err(HookError::Settings(format!(
            "{} interfaces are named; {INTERFACES_MAX} can be, or mark what is wanted with nftables",
            config.interfaces.len()
        )));
    }
    if let Some((value, mask)) = config.mark
        && value & !mask != 0
    {
        return Err(HookError::Settings(format!(
            "no packet has the mark {value:#x}/{mask:#x}: the value has bits that the mask has not"
        )));
    }
    if let Some(priority @ (i32::MIN | i32::MAX)) = config.priority {
        return Err(HookError::Priority(priority));
    }
    if config.processors.as_ref().is_some_and(Vec::is_empty) {
        return Err(HookError::Settings("no processor gets a ring".to_owned()));
    }
    Ok(())
}

pub(super) fn types_of(config: &HookConfig) -> Result<Types, HookError> {
    let path = &config.types;
    let btf = Btf::read(path).map_err(|source| HookError::of_types(path, source))?;
    let no_context = btf.structure("bpf_nf_ctx").is_err();
    Types::of(&btf).map_err(|source| HookError::of_missing(no_context, source))
}

pub(super) fn geometry_of(config: &HookConfig, rings: usize) -> Result<(Geometry, u32), HookError> {
    let wanted = config.copy_range_bytes.max(COPY_RANGE_MIN);
    let copy_range_bytes = wanted.min(COPY_RANGE_MAX_BYTES) as usize;
    let each = (config.buffer_bytes / rings.max(1)).clamp(RING_BYTES_MIN, RING_BYTES_MAX);
    let ring_bytes = 1usize << each.ilog2();
    let slack = layout::record_bytes(copy_range_bytes).next_multiple_of(PAGE);
    let stride_bytes = BYTES + ring_bytes + slack;
    let value_bytes = u32::try_from(stride_bytes)
        .map_err(|_| HookError::Settings("the rings are too large".to_owned()))?;
    let geometry = Geometry {
        rings,
        ring_bytes,
        stride_bytes,
        copy_range_bytes,
        hook: config.hook.number(),
    };
    Ok((geometry, value_bytes))
}

pub(super) fn connections(cutoff: Cutoff) -> Result<OwnedFd, HookError> {
    bpf::create_lru_hash(
        NAME,
        cutoff.connections.max(1),
        program::CONNECTION_KEY_BYTES,
        program::CONNECTION_VALUE_BYTES,
    )
    .map_err(|source| HookError::of_call("make the map of connections", source))
}

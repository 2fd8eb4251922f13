//! What the settings of a session mean for its files.

use super::keeper::Keeper;
use crate::format::pcap::Pcap;
use crate::format::pcapng::PcapNg;
use crate::format::{Format, Interfaces, LinkType};
use crate::ring::recovery::boot_id;
use crate::ring::{RingConfig, segment_bytes_for};
use crate::session::settings::{FileFormat, Output, Settings, SourceSettings};
use crate::source::{SourceName, Target, links};

/// Attributes that link type NFLOG records beside the packet.
const NFLOG_ATTRIBUTES_BYTES: u32 = 512;

pub(super) fn extension(output: &Output) -> &'static str {
    match output.format {
        FileFormat::PcapNg => PcapNg::EXTENSION,
        FileFormat::Pcap => Pcap::EXTENSION,
    }
}

/// The snap length that files declare: with link type NFLOG, frames hold attributes as well.
pub(super) fn file_snaplen(settings: &Settings) -> u32 {
    match settings.link {
        LinkType::Nflog => settings.snaplen + NFLOG_ATTRIBUTES_BYTES,
        LinkType::Ethernet | LinkType::Ip | LinkType::RawIp => settings.snaplen,
    }
}

/// A stream has no segments.
fn segment_bytes(settings: &Settings) -> usize {
    if settings.output.is_none() {
        return 0;
    }
    segment_bytes_for(PcapNg::record_bytes_max(file_snaplen(settings) as usize))
}

pub(super) fn pcapng(settings: &Settings, name: SourceName) -> PcapNg {
    let source = match name {
        SourceName::Number(Target::Group, number) => format!("NFLOG group {number}"),
        SourceName::Number(Target::Queue, number) => format!("NFQUEUE queue {number}"),
        SourceName::Hook(hook) => format!("Netfilter hook {hook}{}", left_out(settings)),
    };
    let interfaces = Interfaces::new(links::name_of);
    PcapNg::new(
        settings.link,
        file_snaplen(settings),
        source,
        segment_bytes(settings),
        interfaces,
    )
    .with_boot_id(boot_id())
}

/// What a hook leaves out from the start, for who reads its files.
fn left_out(settings: &Settings) -> String {
    let SourceSettings::Hook(options) = &settings.source else {
        return String::new();
    };
    let mut said = String::new();
    if let Some(sample @ 2..) = options.sample {
        said += &format!(", 1 packet of {sample}");
    }
    if let Some(bytes) = options.cutoff_bytes {
        said += &format!(", the first {bytes} bytes of each connection");
    }
    said
}

/// Who keeps files of this capture, where it writes any.
pub(super) fn keeper(settings: &Settings) -> Option<Keeper> {
    let output = settings.output.as_ref()?;
    let rings = settings.names().into_iter().map(|name| name.file_name());
    let bytes_max = settings.keep.as_ref().map(|keep| keep.bytes_max);
    Some(Keeper::new(&output.dir, rings.collect(), bytes_max))
}

pub(super) fn ring_config(settings: &Settings, output: &Output, name: SourceName) -> RingConfig {
    RingConfig {
        dir: output.dir.clone(),
        name: name.file_name(),
        extension: extension(output),
        file_bytes: output.file_bytes,
        limits: output.limits,
        segment_bytes: segment_bytes(settings),
        padding_blocks: output.format == FileFormat::PcapNg,
    }
}

/// The files a ring of these settings may come to take, in bytes: what an operator has to plan for.
pub fn disk_bound_bytes(settings: &Settings) -> Option<u64> {
    let output = settings.output.as_ref()?;
    let rings = settings.names().len() as u64;
    // One more file than hold packets is being prepared.
    let by_files = match output.limits.files {
        0 => None,
        files => Some(
            output
                .file_bytes
                .saturating_mul((files as u64).saturating_add(1)),
        ),
    };
    let least = [by_files, output.limits.bytes].into_iter().flatten().min();
    least.map(|bytes| bytes.saturating_mul(rings))
}

//! Readers of capture files: `pcap-parser` for each byte, the usual tools for what people see.

use std::path::Path;
use std::process::Command;

pub use super::contents::*;
use super::output;

/// How many packets `capinfos` finds; it may not complain.
pub fn count_by_capinfos(path: &Path) -> Result<u64, String> {
    let output = output(Command::new("capinfos").args(["-M", "-c"]).arg(path), "");
    let (said, told) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() || !told.trim().is_empty() {
        return Err(format!(
            "capinfos {}: {}: {told}{said}",
            path.display(),
            output.status
        ));
    }
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Number of packets:"));
    line.and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| format!("capinfos: {said}"))
}

/// How many packets `tcpdump` reads; it may not complain.
pub fn count_by_tcpdump(path: &Path) -> Result<u64, String> {
    let output = output(
        Command::new("tcpdump")
            .args(["-n", "--count", "-r"])
            .arg(path),
        "",
    );
    let (said, told) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let complaint = told
        .lines()
        .find(|line| !line.starts_with("reading from file "));
    if !output.status.success() || complaint.is_some() {
        return Err(format!(
            "tcpdump {}: {}: {told}",
            path.display(),
            output.status
        ));
    }
    let count = said.split_whitespace().next().unwrap_or_default();
    count.parse().map_err(|_| format!("tcpdump: {said}"))
}

/// How many packets `tshark` dissects; it may not complain.
pub fn count_by_tshark(path: &Path) -> Result<u64, String> {
    let output = output(
        Command::new("tshark")
            .args(["-n", "-T", "fields", "-e", "frame.number", "-r"])
            .arg(path),
        "",
    );
    let told = String::from_utf8_lossy(&output.stderr);
    let complaint = told
        .lines()
        .find(|line| !line.starts_with("Running as user"));
    if !output.status.success() || complaint.is_some() {
        return Err(format!(
            "tshark {}: {}: {told}",
            path.display(),
            output.status
        ));
    }
    Ok(output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// Every reader finds these many packets, and none complains.
pub fn assert_all_readers_find(path: &Path, packets: u64) {
    let counts = [
        count_by_capinfos(path),
        count_by_tcpdump(path),
        count_by_tshark(path),
    ];
    let ours = parse(&std::fs::read(path).unwrap()).map(|contents| contents.packets.len() as u64);
    for (reader, count) in ["capinfos", "tcpdump", "tshark", "pcap-parser"]
        .iter()
        .zip(counts.into_iter().chain([ours]))
    {
        assert_eq!(count, Ok(packets), "{reader} on {}", path.display());
    }
}

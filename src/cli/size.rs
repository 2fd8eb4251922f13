//! `lwnflog size`: how much disk, and how many files, a rate of packets takes.

use std::time::Duration;

use anyhow::Result;

use crate::numbers::grouped;
use crate::session::settings::{self, ConfigError};
use crate::source::hook::layout::record_bytes;

/// An Enhanced Packet Block without its data, with the option that each record has (the direction).
const RECORD_FIXED_BYTES: u64 = 28 + 12 + 4;
/// Of the program's copy, which begins behind the Ethernet header.
const ETHERNET_BYTES: u64 = 14;

/// What the sum is about.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Packets a second.
    pub rate: u64,
    /// How long the ring is to reach back.
    pub time: Duration,
    /// Bytes of each frame that are written.
    pub snaplen: u32,
    /// Bytes of a file.
    pub file_bytes: u64,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum {
    record_bytes: u64,
    bytes_per_second: u64,
    bytes: u64,
    files: u64,
    hook_bytes_per_second: u64,
}

/// Every packet is taken to be at least as long as the snap length.
fn sum(load: &Load) -> Sum {
    let captured = u64::from(load.snaplen);
    let record = RECORD_FIXED_BYTES + captured.next_multiple_of(4);
    let a_second = record.saturating_mul(load.rate);
    let seconds = load.time.as_secs().max(1);
    let bytes = a_second.saturating_mul(seconds);
    let copied = usize::try_from(captured.saturating_sub(ETHERNET_BYTES)).unwrap_or(usize::MAX / 2);
    Sum {
        record_bytes: record,
        bytes_per_second: a_second,
        bytes,
        // The oldest file may just have been given up.
        files: (bytes.div_ceil(load.file_bytes.max(1)) + 1).max(2),
        hook_bytes_per_second: (record_bytes(copied) as u64).saturating_mul(load.rate),
    }
}

/// `lwnflog size --rate 500k --hours 24`
///
/// # Errors
/// Values that make no sense; standard output that cannot be written.
pub fn run(rate: &str, hours: f64, snaplen: u32, file_size: &str, buffer: &str) -> Result<()> {
    let bad_time = || ConfigError::Duration {
        text: hours.to_string(),
    };
    let load = Load {
        rate: settings::parse_size(rate, 1)?,
        time: Duration::try_from_secs_f64(hours * 3600.0).map_err(|_| bad_time())?,
        snaplen: settings::snaplen(snaplen, settings::SNAPLEN_MAX)?,
        file_bytes: settings::parse_size(file_size, 1_000_000)?,
    };
    let sum = sum(&load);
    let buffer_bytes = settings::parse_size(buffer, 1024)?;
    let held_ms = buffer_bytes.saturating_mul(1000) / sum.hook_bytes_per_second.max(1);
    let text = format!(
        "a record       {:>22} bytes, of packets of {} bytes or more\n\
         a second       {:>22} bytes to the disk\n\
         the time       {:>22} bytes\n\
         the ring        --file-size {} --files {} (one more file is being prepared: {} bytes in sum)\n\
         a late reader   rings of {} bytes (--hook, one busy processor) hold {} ms\n",
        grouped(sum.record_bytes),
        grouped(u64::from(load.snaplen)),
        grouped(sum.bytes_per_second),
        grouped(sum.bytes),
        load.file_bytes,
        sum.files,
        grouped(load.file_bytes.saturating_mul(sum.files + 1)),
        grouped(buffer_bytes),
        grouped(held_ms),
    );
    super::say(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64-byte frames took 772 MB for 7,139,089 packets in the soak: 108 bytes each.
    #[test]
    fn the_sum_is_what_was_measured() {
        let load = Load {
            rate: 500_000,
            time: Duration::from_secs(3600),
            snaplen: 64,
            file_bytes: 2_000_000_000,
        };
        let sum = sum(&load);
        assert_eq!(sum.record_bytes, 108);
        assert_eq!(sum.bytes_per_second, 54_000_000);
        assert_eq!(sum.bytes, 194_400_000_000);
        assert_eq!(sum.files, 99);
        assert_eq!(sum.hook_bytes_per_second, 104 * 500_000);
    }
}

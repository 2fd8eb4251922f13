//! Sending a recorded trace, as the thesis did with tcpreplay.

use std::io::IoSlice;
use std::path::Path;

use super::sender::Transmitter;
use super::trace::{LINKTYPE_ETHERNET, LINKTYPE_IPV4, LINKTYPE_RAW, read_trace};
use super::{Lab, LabError, Progress, Sent};
use crate::sys::inject::BATCH;

const MAC_LEN: usize = 6;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// The trace is held in memory, so that reading it does not slow the sender down.
const MEMORY_LIMIT: usize = 2 << 30;

/// A trace in memory, addressed to the laboratory's receiver.
#[derive(Debug)]
pub struct Replay {
    bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
    skipped: u64,
}

impl Replay {
    /// Reads a pcap or pcapng file of Ethernet frames or raw IPv4 packets.
    ///
    /// Frames get the receiver's hardware address, as the Netfilter hook sees no others; what the
    /// recording cut off is filled with zeros. Frames too long for the laboratory's cable, and
    /// packets of other link types, are skipped.
    pub fn open(path: &Path, lab: &Lab, mtu: usize) -> Result<Self, LabError> {
        let mut replay = Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            skipped: 0,
        };
        let header = [&lab.rx().mac[..], &lab.tx().mac, &ETHERTYPE_IPV4].concat();
        let longest = mtu + header.len();
        let mut too_large = false;
        read_trace(path, |record| {
            let (head, body) = match record.link_type {
                LINKTYPE_ETHERNET if record.data.len() >= header.len() => {
                    (&header[..MAC_LEN], &record.data[MAC_LEN..])
                }
                LINKTYPE_RAW | LINKTYPE_IPV4
                    if record.data.first().is_some_and(|b| b >> 4 == 4) =>
                {
                    (&header[..], record.data)
                }
                _ => {
                    replay.skipped += 1;
                    return;
                }
            };
            let missing = record.original_len.saturating_sub(record.data.len());
            let frame_len = head.len() + body.len() + missing;
            if frame_len > longest || replay.bytes.len() + frame_len > MEMORY_LIMIT {
                too_large |= frame_len <= longest;
                replay.skipped += 1;
                return;
            }
            let end = replay.bytes.len() + frame_len;
            replay.bytes.extend_from_slice(head);
            replay.bytes.extend_from_slice(body);
            replay.bytes.resize(end, 0);
            replay.ends.push(end);
        })?;
        let reason = match (too_large, replay.ends.is_empty()) {
            (true, _) => format!("more than {} GiB of packets", MEMORY_LIMIT >> 30),
            (_, true) => "no packet in it can be sent".to_owned(),
            _ => return Ok(replay),
        };
        Err(LabError::Trace {
            path: path.to_owned(),
            reason,
        })
    }

    /// How many frames one pass sends.
    pub fn packets(&self) -> u64 {
        self.ends.len() as u64
    }

    /// How many packets of the file are left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Sends `packets` frames, going through the trace as often as that takes.
    pub fn send(
        &self,
        lab: &Lab,
        packets: u64,
        core: Option<usize>,
        rate: Option<u64>,
        progress: &Progress,
    ) -> Result<Sent, LabError> {
        let mut transmitter = Transmitter::open(lab, core, rate)?;
        let in_sender = move || {
            transmitter.start()?;
            let mut left = packets;
            let mut next = 0;
            while left > 0 && !progress.stopped() {
                let wanted = usize::try_from(left)
                    .unwrap_or(BATCH)
                    .min(transmitter.batch);
                let mut slices = [IoSlice::new(&[]); BATCH];
                let mut count = 0;
                for (slice, index) in slices.iter_mut().zip(next..self.ends.len()).take(wanted) {
                    let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
                    *slice = IoSlice::new(&self.bytes[start..self.ends[index]]);
                    count += 1;
                }
                left -= transmitter.send(&slices[..count], progress)?;
                next = (next + count) % self.ends.len();
            }
            Ok(transmitter.finish())
        };
        lab.sender().run(in_sender)?
    }
}

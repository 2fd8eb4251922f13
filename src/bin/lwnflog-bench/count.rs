//! What is in the files, by a reader that is not ours (the crate `pcap-parser`).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lwnflog::lab::{
    LINKTYPE_ETHERNET, LINKTYPE_IPV4, LINKTYPE_NFLOG, LINKTYPE_RAW, Marker, Record, read_trace,
};

use crate::workdir;

/// NFULA_PAYLOAD in link type NFLOG, and the header before the first attribute.
const NFLOG_PAYLOAD: u16 = 9;
const NFLOG_HEADER_LEN: usize = 4;
/// What ulogd2 writes for raw IP: the number of DLT_RAW within Linux, not that of the file format.
const DLT_RAW: i32 = 12;

/// What was found in a tool's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Records of any kind.
    pub(crate) records: u64,
    /// Different packets of the measured streams.
    pub(crate) written: u64,
    /// Packets of the measured streams that were there before.
    pub(crate) duplicates: u64,
    /// Packets that stand behind a later one of their stream.
    pub(crate) reordered: u64,
    /// Complaints of the reader.
    pub(crate) errors: Vec<String>,
}

/// Counts the packets of some streams, each once.
pub(crate) struct Counter {
    first: u16,
    streams: Vec<Stream>,
    found: Found,
}

#[derive(Default)]
struct Stream {
    seen: Vec<u64>,
    next: u64,
}

impl Counter {
    /// For `count` streams from `first` on.
    pub(crate) fn new(first: u16, count: usize) -> Self {
        let streams = (0..count).map(|_| Stream::default()).collect();
        Self {
            first,
            streams,
            found: Found::default(),
        }
    }

    pub(crate) fn finish(self) -> Found {
        self.found
    }

    fn record(&mut self, marker: Option<Marker>) {
        /// A sequence number beyond this is not one of ours, and would take all memory.
        const LIMIT: u64 = 1 << 32;
        self.found.records += 1;
        let Some(marker) = marker else { return };
        let index = usize::from(marker.stream.wrapping_sub(self.first));
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        if marker.sequence >= LIMIT {
            return;
        }
        let word = usize::try_from(marker.sequence / 64).unwrap_or(usize::MAX);
        let bit = 1 << (marker.sequence % 64);
        if word >= stream.seen.len() {
            stream.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if stream.seen[word] & bit != 0 {
            self.found.duplicates += 1;
            return;
        }
        stream.seen[word] |= bit;
        self.found.written += 1;
        self.found.reordered += u64::from(marker.sequence < stream.next);
        stream.next = stream.next.max(marker.sequence + 1);
    }
}

/// Reads a file once for several counters; the last one gets the reader's complaint, if there is
/// one.
pub(crate) fn read(path: &Path, counters: &mut [Counter]) {
    let result = read_trace(path, |record| {
        let marker = marker_of(record);
        counters
            .iter_mut()
            .for_each(|counter| counter.record(marker));
    });
    if let (Err(error), Some(counter)) = (result, counters.last_mut()) {
        counter.found.errors.push(error.to_string());
    }
}

fn marker_of(record: Record<'_>) -> Option<Marker> {
    match record.link_type {
        LINKTYPE_ETHERNET => Marker::of_frame(record.data),
        LINKTYPE_RAW | LINKTYPE_IPV4 | DLT_RAW => Marker::of_packet(record.data),
        LINKTYPE_NFLOG => Marker::of_packet(nflog_payload(record.data)?),
        _ => None,
    }
}

fn nflog_payload(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message.get(NFLOG_HEADER_LEN..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == NFLOG_PAYLOAD {
            return rest.get(4..len.min(rest.len()));
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..)?;
    }
}

/// The capture files below a directory that were written since `start`, oldest first.
pub(crate) fn files_since(dir: &Path, start: SystemTime) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (path, meta) in workdir::files(dir) {
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        // tcpdump numbers its files behind the name: ring.pcap0
        let end = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if modified >= start && end.starts_with("pcap") {
            files.push((modified, path));
        }
    }
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(stream: u16, sequence: u64) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet.extend(b"LWNF");
        packet.extend(stream.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(sequence.to_be_bytes());
        packet
    }

    #[test]
    fn each_packet_of_the_measured_streams_counts_once() {
        let mut counter = Counter::new(7, 2);
        for (stream, sequence) in [
            (7, 0),
            (7, 2),
            (7, 1),
            (7, 2),
            (8, 99),
            (9, 0),
            (6, 0),
            (7, u64::MAX),
        ] {
            let data = &packet(stream, sequence);
            counter.record(marker_of(Record {
                link_type: LINKTYPE_RAW,
                data,
                original_len: data.len(),
            }));
        }
        let found = counter.finish();
        assert_eq!((found.records, found.written), (8, 4));
        assert_eq!((found.duplicates, found.reordered), (1, 1));
    }

    #[test]
    fn an_nflog_record_is_looked_into() {
        let mut message = vec![2, 0, 0, 5];
        for (kind, value) in [
            (1u16, vec![8, 0, 0, 0]),
            (10, vec![0]),
            (NFLOG_PAYLOAD, packet(1, 3)),
        ] {
            message.extend((u16::try_from(value.len()).unwrap() + 4).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(&value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let record = Record {
            link_type: LINKTYPE_NFLOG,
            data: &message,
            original_len: 0,
        };
        assert_eq!(
            marker_of(record),
            Some(Marker {
                stream: 1,
                sequence: 3
            })
        );
        for end in 0..message.len() {
            nflog_payload(&message[..end]); // never a panic
        }
        assert_eq!(nflog_payload(&[0; 64]), None);
    }
}

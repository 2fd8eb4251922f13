//! Reading what was written, by a walk of the world's own: nothing of it is the program's code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A packet's record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Nanoseconds since 1970.
    pub stamp: i64,
    pub link: u16,
    pub interface: String,
    pub bytes: (usize, usize),
    pub length: u32,
    pub lost_before: u64,
    pub comments: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Walked {
    pub bytes: Vec<u8>,
    pub records: Vec<Record>,
    /// Of the statistics at the end: delivered, dropped.
    pub statistics: Vec<(u64, u64)>,
    pub late_comments: Vec<String>,
}

impl Walked {
    pub fn frame(&self, record: &Record) -> &[u8] {
        &self.bytes[record.bytes.0..record.bytes.1]
    }

    /// From the IP header on.
    pub fn packet(&self, record: &Record) -> &[u8] {
        let frame = self.frame(record);
        match record.link {
            1 => frame.get(14..).unwrap_or_default(),
            239 => payload(frame),
            _ => frame,
        }
    }
}

/// The packet in a message of the kernel's: NFULA_PAYLOAD.
fn payload(message: &[u8]) -> &[u8] {
    let mut at = 4;
    while let (Ok(len), Ok(kind)) = (u16_at(message, at), u16_at(message, at + 2)) {
        let end = at + usize::from(len);
        if kind & 0x3fff == 9 {
            return message.get(at + 4..end).unwrap_or_default();
        }
        if len < 4 {
            break;
        }
        at = end.next_multiple_of(4);
    }
    &[]
}

struct Interface {
    link: u16,
    name: String,
    ticks: i64,
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    let found = bytes.get(at..at + 2).and_then(|word| word.try_into().ok());
    found
        .map(u16::from_le_bytes)
        .ok_or(format!("no word at {at}"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let found = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    found
        .map(u32::from_le_bytes)
        .ok_or(format!("no word at {at}"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    Ok(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at + 4)?) << 32)
}

/// The options from `at` to `end`.
fn options(bytes: &[u8], mut at: usize, end: usize) -> Result<Vec<(u16, Vec<u8>)>, String> {
    let mut found = Vec::new();
    while at < end {
        let (code, len) = (u16_at(bytes, at)?, usize::from(u16_at(bytes, at + 2)?));
        if code == 0 {
            return if at + 4 == end {
                Ok(found)
            } else {
                Err(format!("bytes behind the options at {at}"))
            };
        }
        let value = bytes
            .get(at + 4..at + 4 + len)
            .ok_or(format!("an option beyond its block at {at}"))?;
        found.push((code, value.to_vec()));
        at += 4 + len.next_multiple_of(4);
    }
    if at == end {
        Ok(found)
    } else {
        Err(format!("options do not end with their block, at {at}"))
    }
}

/// Walks a pcapng file or stream. `whole`: it may not end within a block.
pub fn pcapng(bytes: Vec<u8>, whole: bool) -> Result<Walked, String> {
    let mut walked = Walked::default();
    let mut interfaces: Vec<Interface> = Vec::new();
    let (mut at, mut segment) = (0, 0usize);
    while at < bytes.len() {
        let head = || -> Result<(u32, usize), String> {
            Ok((u32_at(&bytes, at)?, u32_at(&bytes, at + 4)? as usize))
        };
        let Ok((kind, total)) = head() else {
            if whole {
                return Err(format!("it ends within a block's head, at {at}"));
            }
            break;
        };
        if total < 12 || total % 4 != 0 {
            return Err(format!("a block of {total} bytes at {at}, type {kind:#x}"));
        }
        let end = at + total;
        if end > bytes.len() {
            if whole {
                return Err(format!(
                    "a block of {total} bytes at {at}, beyond the end at {}",
                    bytes.len()
                ));
            }
            break;
        }
        if u32_at(&bytes, end - 4)? as usize != total {
            return Err(format!(
                "the block at {at} ({kind:#x}) has two lengths: {total} and {}",
                u32_at(&bytes, end - 4)?
            ));
        }
        if segment != 0 && at / segment != (end - 1) / segment {
            return Err(format!(
                "the block at {at} of {total} bytes crosses a segment of {segment}"
            ));
        }
        match kind {
            0x0a0d_0d0a => {
                if at != 0 {
                    return Err(format!("a second section at {at}"));
                }
                if u32_at(&bytes, 8)? != 0x1a2b_3c4d {
                    return Err("byte order".to_owned());
                }
                for (code, value) in options(&bytes, at + 24, end - 4)? {
                    let text = String::from_utf8_lossy(&value);
                    let word = text
                        .split_whitespace()
                        .find_map(|word| word.strip_prefix("segment="));
                    if code == 1
                        && let Some(size) = word
                    {
                        segment = size.parse().map_err(|_| format!("segment: {text}"))?;
                    }
                }
            }
            1 => {
                let mut interface = Interface {
                    link: u16_at(&bytes, at + 8)?,
                    name: String::new(),
                    ticks: 1000,
                };
                for (code, value) in options(&bytes, at + 16, end - 4)? {
                    match code {
                        2 => interface.name = String::from_utf8_lossy(&value).into_owned(),
                        9 if value == [9] => interface.ticks = 1,
                        9 if value == [6] => interface.ticks = 1000,
                        9 => return Err(format!("resolution {value:?}")),
                        _ => {}
                    }
                }
                interfaces.push(interface);
            }
            6 => {
                let id = u32_at(&bytes, at + 8)? as usize;
                let of = interfaces.get(id).ok_or(format!(
                    "the packet at {at} is of interface {id}, which is not declared"
                ))?;
                let ticks =
                    u64::from(u32_at(&bytes, at + 12)?) << 32 | u64::from(u32_at(&bytes, at + 16)?);
                let captured = u32_at(&bytes, at + 20)? as usize;
                if at + 28 + captured.next_multiple_of(4) > end - 4 {
                    return Err(format!("the packet at {at} is longer than its block"));
                }
                let mut record = Record {
                    stamp: i64::try_from(ticks)
                        .unwrap_or(i64::MAX)
                        .saturating_mul(of.ticks),
                    link: of.link,
                    interface: of.name.clone(),
                    bytes: (at + 28, at + 28 + captured),
                    length: u32_at(&bytes, at + 24)?,
                    lost_before: 0,
                    comments: Vec::new(),
                };
                for (code, value) in
                    options(&bytes, at + 28 + captured.next_multiple_of(4), end - 4)?
                {
                    match code {
                        1 => record
                            .comments
                            .push(String::from_utf8_lossy(&value).into_owned()),
                        4 => record.lost_before += u64_at(&value, 0)?,
                        2 => {}
                        _ => return Err(format!("option {code} of the packet at {at}")),
                    }
                }
                walked.records.push(record);
            }
            5 => {
                let (mut delivered, mut dropped) = (0, 0);
                for (code, value) in options(&bytes, at + 20, end - 4)? {
                    match code {
                        7 => dropped = u64_at(&value, 0)?,
                        8 => delivered = u64_at(&value, 0)?,
                        1 => walked
                            .late_comments
                            .push(String::from_utf8_lossy(&value).into_owned()),
                        _ => {}
                    }
                }
                walked.statistics.push((delivered, dropped));
            }
            0x8000_6c77 => {}
            _ => return Err(format!("a block of type {kind:#x} at {at}")),
        }
        at = end;
    }
    walked.bytes = bytes;
    Ok(walked)
}

/// Walks a classic pcap file.
fn pcap(bytes: Vec<u8>) -> Result<Walked, String> {
    let mut walked = Walked::default();
    let scale = match u32_at(&bytes, 0)? {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        magic => return Err(format!("magic {magic:#x}")),
    };
    let link = u16_at(&bytes, 20)?;
    let mut at = 24;
    while at < bytes.len() {
        let captured = u32_at(&bytes, at + 8)? as usize;
        if at + 16 + captured > bytes.len() || captured == 0 {
            return Err(format!(
                "a record of {captured} bytes at {at} of {}",
                bytes.len()
            ));
        }
        walked.records.push(Record {
            stamp: i64::from(u32_at(&bytes, at)?) * 1_000_000_000
                + i64::from(u32_at(&bytes, at + 4)?) * scale,
            link,
            interface: String::new(),
            bytes: (at + 16, at + 16 + captured),
            length: u32_at(&bytes, at + 12)?,
            lost_before: 0,
            comments: Vec::new(),
        });
        at += 16 + captured;
    }
    walked.bytes = bytes;
    Ok(walked)
}

/// A file of a ring, whatever its format and compression. Chores may compress it between its name's being
/// listed and now.
pub fn file(path: &Path) -> Result<Walked, String> {
    let twins = [".zst", ".lz4"].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        std::path::PathBuf::from(name)
    });
    match plain_or_packed(path) {
        Err(why) if !path.exists() => match twins.iter().find(|twin| twin.exists()) {
            Some(twin) => plain_or_packed(twin),
            None => Err(why),
        },
        found => found,
    }
}

fn plain_or_packed(path: &Path) -> Result<Walked, String> {
    let name = path.to_string_lossy().into_owned();
    let (bytes, plain) = if let Some(plain) = name.strip_suffix(".zst") {
        (unpacked("zstd", path)?, plain)
    } else if let Some(plain) = name.strip_suffix(".lz4") {
        (unpacked("lz4", path)?, plain)
    } else {
        (
            fs::read(path).map_err(|error| format!("{name}: {error}"))?,
            name.as_str(),
        )
    };
    let walked = if plain.ends_with(".pcap") {
        pcap(bytes)
    } else {
        pcapng(bytes, true)
    };
    walked.map_err(|why| format!("{name}: {why}"))
}

fn unpacked(program: &str, path: &Path) -> Result<Vec<u8>, String> {
    let output = Command::new(program)
        .arg("-dc")
        .arg(path)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{program} -dc {}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(output.stdout)
}

/// The state of a ring's file, from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Live,
    Finished,
    Damaged,
    /// About to get its name.
    Next,
}

/// What a killed capture left that had packets and no name yet (FORMAT.md, "Names").
pub fn unnamed_files(dir: &Path, name: &str) -> BTreeMap<u64, (std::path::PathBuf, State)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = file.strip_prefix(&format!(".{name}-")) else {
            continue;
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        if let (true, Ok(number)) = (plain && rest.contains(".next."), digits.parse()) {
            files.insert(number, (entry.path(), State::Next));
        }
    }
    files
}

/// The files of a ring in a directory, by their numbers; a plain one goes before its compressed twin.
pub fn ring_files(dir: &Path, name: &str) -> BTreeMap<u64, (std::path::PathBuf, State)> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return files;
    };
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
        else {
            continue;
        };
        if !rest.contains(".pcap") || file.ends_with(".part") || file.ends_with(".orig") {
            continue;
        }
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let Ok(number) = digits.parse() else { continue };
        let state = if file.contains(".live.") {
            State::Live
        } else if file.ends_with(".damaged") {
            State::Damaged
        } else {
            State::Finished
        };
        // FORMAT.md: what is no plain file is not the ring's.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let packed = |path: &Path| {
            path.extension()
                .is_some_and(|ext| ext == "zst" || ext == "lz4")
        };
        let path = entry.path();
        match files.get(&number) {
            Some((other, _)) if packed(&path) && !packed(other) => {}
            _ => {
                files.insert(number, (path, state));
            }
        }
    }
    files
}

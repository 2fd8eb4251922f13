//! What is read, by the words of a command line: directories of captures and files, and the filter
//! behind them. What was named and is not there is an error.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::out::named;
use crate::cli::complain;
use crate::read::chain::is_named_as_capture;
use crate::read::filter::Filter;
use crate::ring::wherever;

/// The place that a capture writes to if nothing else is said.
const PLACE: &str = "lwnflog-capture";
/// What a filter may begin with.
const BEGIN: [&str; 32] = [
    "host",
    "net",
    "port",
    "portrange",
    "proto",
    "src",
    "dst",
    "less",
    "greater",
    "iface",
    "mark",
    "prefix",
    "lost",
    "not",
    "ip",
    "ip6",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "gre",
    "esp",
    "ah",
    "pim",
    "vrrp",
    "arp",
    "vlan",
    "ether",
    "len",
    "icmpv6",
];
/// Names that are said of many.
const SAID_MAX: usize = 3;

/// Words that name what is there are places; the rest is the filter.
///
/// # Errors
/// A place that is not there, that may not be looked at, or that holds no capture; a filter that makes
/// no sense.
pub(super) fn places_and_filter(
    files: &[PathBuf],
    words: &[OsString],
) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let (places, filter) = by_name(files, words)?;
    for place in &places {
        check(place)?;
    }
    Ok((places, filter))
}

/// The same for who waits for what comes: a directory may hold nothing yet.
pub(super) fn places_to_follow(
    files: &[PathBuf],
    words: &[OsString],
) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let (places, filter) = by_name(files, words)?;
    for place in &places {
        if let Some(found) = look(place)?
            && found.captures == 0
        {
            complain(&format!("{}: no capture yet: waiting", named(place)));
        }
    }
    Ok((places, filter))
}

fn by_name(files: &[PathBuf], words: &[OsString]) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let mut places = files.to_vec();
    let mut named = 0;
    for word in words {
        if !is_place(word)? {
            break;
        }
        if let Some(word) = word.to_str().filter(|word| BEGIN.contains(word)) {
            complain(&format!(
                "`{word}` is here, and is read: as the filter's word it is written '({word})'"
            ));
        }
        named += 1;
    }
    let (there, rest) = words.split_at(named);
    places.extend(there.iter().map(PathBuf::from));
    let text = |word: &OsString| {
        let word = word.to_str().map(str::to_owned);
        word.context("a filter has no bytes that are not UTF-8")
    };
    let rest: Vec<_> = rest.iter().map(text).collect::<Result<_>>()?;
    if let Err(error) = Filter::of_arguments(&rest) {
        return Err(explained(error.into(), &rest));
    }
    if places.is_empty() {
        ensure!(
            Path::new(PLACE).try_exists()?,
            "{PLACE}: there is no such directory here, and no other place is named: name a directory of captures, or \
             a file, before the filter"
        );
        places.push(PLACE.into());
    }
    Ok((places, rest))
}

/// Whether a word names what is there.
fn is_place(word: &OsStr) -> Result<bool> {
    let path = Path::new(word);
    if word == "-" {
        return Ok(true);
    }
    // What is not UTF-8 is in no filter.
    let is_meant = || word.to_str().is_none_or(is_meant_as_path);
    match wherever(path).try_exists() {
        Ok(true) => Ok(true),
        Ok(false) if is_meant() => {
            bail!("{}: there is no such file or directory", named(path))
        }
        Err(error) if is_meant() => Err(error).with_context(|| named(path)),
        Ok(false) | Err(_) => Ok(false),
    }
}

/// No filter begins so: with a `/` that is not of a network, or as names of captures end.
fn is_meant_as_path(word: &str) -> bool {
    let first = word.split_whitespace().next().unwrap_or_default();
    let network = |text: &str| {
        text.split_once('/').is_some_and(|(address, bits)| {
            let digits = |letter: char| letter.is_ascii_hexdigit() || ".:".contains(letter);
            address.chars().all(digits)
                && !address.is_empty()
                && bits.chars().all(|letter| letter.is_ascii_digit())
        })
    };
    (first.contains('/') && !network(first)) || is_named_as_capture(Path::new(word)) || looks(word)
}

/// What is wrong with a filter, where it may have been meant as a place.
fn explained(error: anyhow::Error, words: &[String]) -> anyhow::Error {
    let first = words.first().map_or("", String::as_str);
    let begin: &str = first
        .split([' ', '(', ')', '!'])
        .find(|word| !word.is_empty())
        .unwrap_or("not");
    let behind = words.iter().skip(1).find(|word| {
        !BEGIN.contains(&word.as_str()) && Path::new(word.as_str()).try_exists().unwrap_or(false)
    });
    match behind {
        Some(place) => error.context(format!(
            "`{place}` is here, but stands in the filter: places come before it"
        )),
        None if !BEGIN.contains(&begin) => error.context(format!(
            "{first}: there is no such file or directory, and as a filter it makes no sense"
        )),
        None => error,
    }
}

/// What is wrong with a place that is named.
///
/// # Errors
/// It is not there, may not be looked at, or holds no capture.
pub(super) fn check(place: &Path) -> Result<()> {
    let Some(found) = look(place)? else {
        return Ok(());
    };
    if found.captures == 0 {
        bail!("{}: no capture is in it{}", named(place), found.instead());
    }
    if !found.lookalikes.is_empty() {
        complain(&format!(
            "{}: not all is read{}",
            named(place),
            found.instead()
        ));
    }
    Ok(())
}

/// What a directory holds.
#[derive(Default)]
struct Found {
    captures: usize,
    /// Under names that are not read.
    lookalikes: Vec<String>,
    /// Directories that hold captures, where this one does not.
    below: Vec<String>,
}

impl Found {
    /// What else is there, and what to do about it.
    fn instead(&self) -> String {
        let mut text = String::new();
        if !self.lookalikes.is_empty() {
            text += &format!(
                "; {} files look like captures under other names ({}): name each to have it read, those of gzip, bzip2 or \
                 xz unpacked before",
                self.lookalikes.len(),
                some(&self.lookalikes)
            );
        }
        if !self.below.is_empty() {
            text += &format!(
                "; {} directories in it hold captures ({}): name those",
                self.below.len(),
                some(&self.below)
            );
        }
        text
    }
}

/// The first of so many names.
fn some(names: &[String]) -> String {
    let more = if names.len() > SAID_MAX { ", ..." } else { "" };
    let first = &names[..names.len().min(SAID_MAX)];
    format!("{}{more}", first.join(", "))
}

/// Looks at a place; `None` where it is no directory.
fn look(place: &Path) -> Result<Option<Found>> {
    if place.as_os_str() == "-" {
        return Ok(None);
    }
    let said = || named(place);
    // A ring's file may have been compressed since it was listed.
    let is_dir = match fs::metadata(wherever(place)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{}: there is no such file or directory", said())
        }
        meta => meta.with_context(said)?.is_dir(),
    };
    if !is_dir {
        return Ok(None);
    }
    let mut found = Found::default();
    let mut directories = Vec::new();
    for entry in fs::read_dir(place).with_context(said)? {
        let entry = entry.with_context(said)?;
        let (path, name) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories.push((path, name));
        } else if is_named_as_capture(&path) {
            found.captures += 1;
        } else if looks(&name) {
            found.lookalikes.push(name);
        }
    }
    if found.captures == 0 {
        let holds = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.path())
                .any(|path| is_named_as_capture(&path))
        };
        let below = directories.into_iter().filter(|(path, _)| holds(path));
        found.below = below.map(|(_, name)| name).collect();
    }
    found.lookalikes.sort();
    found.below.sort();
    Ok(Some(found))
}

/// The same of a path.
pub(super) fn looks_like_capture(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    looks(&name.to_string_lossy())
}

/// Whether a file of this name, which a directory is not searched for, looks like a capture: `x.pcap1` of
/// `tcpdump -C`, `x.cap`, `x.pcap.gz`.
fn looks(name: &str) -> bool {
    let mut name = name.to_ascii_lowercase();
    for packed in [".gz", ".bz2", ".xz", ".zst", ".lz4"] {
        if let Some(plain) = name.strip_suffix(packed) {
            name = plain.to_owned();
        }
    }
    let bare = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let bare = bare
        .strip_suffix('.')
        .filter(|_| bare != name)
        .unwrap_or(bare);
    let kinds = [".pcap", ".pcapng", ".cap"];
    !name.starts_with('.')
        && kinds
            .iter()
            .any(|kind| bare.ends_with(kind) && bare.len() > kind.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_captures() {
        for name in [
            "x.pcap1",
            "x.pcap001",
            "x.pcap.1",
            "x.cap",
            "x.PCAP",
            "x.pcapng.gz",
            "x.pcap12.xz",
            "x.cap.zst",
        ] {
            assert!(looks(name), "{name}");
        }
        for name in [
            "x.html",
            ".x.pcap1",
            "pcap1",
            ".cap",
            "x.pcap.idx",
            "1",
            "host",
            "",
        ] {
            assert!(!looks(name), "{name}");
        }
    }

    #[test]
    fn words_that_are_meant_as_paths() {
        for word in [
            "./x",
            "a/b",
            "/nosuch",
            "x.pcap",
            "my capture.pcapng",
            "x.pcap1",
            "../x.cap.gz",
        ] {
            assert!(is_meant_as_path(word), "{word}");
        }
        for word in [
            "host",
            "10.0.0.0/8",
            "2001:db8::/32",
            "net 10.0.0.0/8",
            "(net",
            "!tcp",
            "80",
        ] {
            assert!(!is_meant_as_path(word), "{word}");
        }
    }
}

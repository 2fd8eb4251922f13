//! What the fuzz targets share: how the fuzzer's bytes become datagrams, and the inputs it begins
//! with.
//!
//! The first byte of an input says how the rest is to be taken: even, as it stands; odd, as a
//! recipe ([`bodies`]). Bytes as they stand reach what is wrong with lengths; a recipe has all
//! lengths right, and reaches what comes behind.
#![allow(dead_code, reason = "each target uses its part")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

#[path = "../common/contents.rs"]
pub mod contents;
#[path = "../common/datagrams.rs"]
pub mod datagrams;

use datagrams::real_datagrams;
use lwnflog::netlink::nfnetlink::NFGENMSG_BYTES;
use lwnflog::netlink::{Attributes, Messages, message};
use lwnflog::source::nflog::message as nflog;

/// A target's program: fuzzes `$check`, or checks it on the seeds.
macro_rules! target {
    ($seeds:path, $check:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(init: common::plant(&$seeds()), |input: &[u8]| $check(input));

        #[cfg(not(fuzzing))]
        fn main() {
            common::check_seeds(&$seeds(), $check);
        }
    };
}
pub(crate) use target;

/// Tells how to fuzz, and checks the seeds: whole, and at up to [`PLACES_MAX`] places each cut off,
/// or with another byte there.
#[cfg(not(fuzzing))]
pub fn check_seeds(seeds: &[Vec<u8>], check: fn(&[u8])) {
    const PLACES_MAX: usize = 500;
    for seed in seeds {
        check(seed);
        for at in (0..seed.len()).step_by(seed.len() / PLACES_MAX + 1) {
            check(&seed[..at]);
            let mut changed = seed.clone();
            changed[at] ^= 0x55;
            check(&changed);
        }
    }
    println!(
        "{} seeds checked, NOTHING FUZZED: for that, tests/fuzz/run",
        seeds.len()
    );
}

/// Writes the seeds to the directory that tests/fuzz/run names, where the fuzzer finds them.
#[cfg(fuzzing)]
pub fn plant(seeds: &[Vec<u8>]) {
    let Some(dir) = std::env::var_os("LWNFLOG_SEEDS").map(std::path::PathBuf::from) else {
        return;
    };
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number:02}")), seed).unwrap();
    }
}

/// The first `messages` messages of each real datagram, from several places in it.
fn pieces(messages: usize) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for datagram in real_datagrams() {
        let mut starts = vec![0];
        for message in Messages::new(datagram).flatten() {
            let len = message::HEADER_BYTES + message.body.len();
            starts.push(starts.last().unwrap() + len.next_multiple_of(4));
        }
        for window in starts.windows(messages + 1).step_by(starts.len() / 3 + 1) {
            pieces.push(datagram[window[0]..window[messages].min(datagram.len())].to_vec());
        }
    }
    pieces
}

/// NFLOG inputs: real datagrams, whole and in pieces, and recipes of the same messages.
pub fn nflog_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for datagram in pieces(1).into_iter().chain(pieces(3)) {
        let mut recipe = vec![1];
        for message in Messages::new(&datagram).flatten() {
            if message.kind == nflog::PACKET {
                recipe.extend(recipe_of(message.body));
                recipe.extend([op::AGAIN, 3, 0x45, 0, 1]);
            }
        }
        seeds.push(recipe);
        seeds.push([&[0], &datagram[..]].concat());
    }
    let whole = real_datagrams().into_iter().min_by_key(|all| all.len());
    seeds.extend(whole.map(|datagram| [&[0], datagram].concat()));
    seeds
}

/// What a byte of a recipe asks for; any smaller one is an attribute of that type.
pub mod op {
    /// The message ends here.
    pub const END: u8 = 64;
    /// The same message again, its last attribute with another value.
    pub const AGAIN: u8 = 128;
    /// The same message again, one byte of it changed.
    pub const CHANGED: u8 = 192;
}

/// The recipe of one message's body.
fn recipe_of(body: &[u8]) -> Vec<u8> {
    let mut recipe = Vec::new();
    for attribute in Attributes::new(&body[NFGENMSG_BYTES..]).flatten() {
        let value = &attribute.value[..attribute.value.len().min(255)];
        recipe.push(u8::try_from(attribute.kind).unwrap());
        recipe.push(u8::try_from(value.len()).unwrap());
        recipe.extend(value);
    }
    recipe.push(op::END);
    recipe
}

/// Message bodies by a recipe: an attribute's type, the length of its value, the value; and what
/// [`op`] has.
pub fn bodies(recipe: &[u8]) -> Vec<Vec<u8>> {
    const BODY: [u8; NFGENMSG_BYTES] = [2, 0, 0, 5];
    let mut rest = recipe.iter().copied();
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    let mut body = BODY.to_vec();
    // Where the last attribute begins: of the body under construction, of the last one.
    let (mut place, mut last_place) = (body.len(), body.len());
    while let Some(asked) = rest.next() {
        let last = bodies.last().unwrap_or(&body);
        match asked {
            op::END..op::AGAIN => {
                bodies.push(std::mem::replace(&mut body, BODY.to_vec()));
                (last_place, place) = (place, BODY.len());
            }
            op::AGAIN..op::CHANGED => {
                let mut again = last[..last_place.min(last.len())].to_vec();
                let kind = last.get(last_place + 2).copied().unwrap_or(0);
                let value = take(&mut rest);
                put(&mut again, kind, &value);
                bodies.push(again);
            }
            op::CHANGED.. => {
                let mut again = last.clone();
                let at = usize::from(rest.next().unwrap_or(0)) % again.len();
                again[at] = rest.next().unwrap_or(0);
                bodies.push(again);
            }
            kind => {
                place = body.len();
                let value = take(&mut rest);
                put(&mut body, kind, &value);
            }
        }
    }
    bodies.push(body);
    bodies
}

/// Bytes behind their number.
fn take(rest: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let len = rest.next().unwrap_or(0).into();
    rest.take(len).collect()
}

fn put(body: &mut Vec<u8>, kind: u8, value: &[u8]) {
    body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
    body.extend(u16::from(kind).to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A message of this type, padded.
pub fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let len = message::HEADER_BYTES + body.len();
    let mut bytes = u32::try_from(len).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.resize(message::HEADER_BYTES, 0);
    bytes.extend(body);
    bytes.resize(len.next_multiple_of(4), 0);
    bytes
}

/// The NFLOG datagram that an input stands for.
pub fn nflog_datagram(input: &[u8]) -> Vec<u8> {
    match input.split_first() {
        Some((how, recipe)) if how % 2 == 1 => bodies(recipe)
            .iter()
            .flat_map(|body| message(nflog::PACKET, body))
            .collect(),
        Some((_, datagram)) => datagram.to_vec(),
        None => Vec::new(),
    }
}

/// `slice` is a part of `whole`, or empty.
pub fn assert_inside(slice: &[u8], whole: &[u8]) {
    let (slice, whole) = (slice.as_ptr_range(), whole.as_ptr_range());
    assert!(
        slice.is_empty() || (whole.start <= slice.start && slice.end <= whole.end),
        "{slice:?} is not in {whole:?}"
    );
}

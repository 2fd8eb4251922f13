//! Where the program finds what it reads.

use crate::source::hook::btf::{Btf, BtfError};

/// Where the program finds what it reads: offsets and type ids of this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after what it is the place of")]
pub struct Types {
    pub ctx_skb: i32,
    pub skb_len: i32,
    pub skb_data_len: i32,
    pub skb_tstamp: i32,
    /// The byte and the bits that say that `tstamp` is no time of day; none before Linux 5.18.
    pub skb_tstamp_type: Option<(i32, i32)>,
    pub skb_mark: i32,
    pub skb_dev: i32,
    pub skb_head: i32,
    pub skb_data: i32,
    pub skb_mac_header: i32,
    pub dev_ifindex: i32,
    pub dev_type: i32,
    pub dynptr_from_skb: u32,
}

impl Types {
    /// Looks them up.
    ///
    /// # Errors
    /// What this kernel does not have.
    pub fn of(btf: &Btf) -> Result<Types, BtfError> {
        let place = |structure: &str, member: &str, bytes: u32| {
            let found = btf.member(structure, member)?;
            let whole = found.bits == 0 && found.bit % 8 == 0 && found.bytes == bytes;
            let place = i16::try_from(found.byte()).ok().filter(|_| whole);
            place
                .map(i32::from)
                .ok_or_else(|| BtfError::Missing(format!("{structure}.{member} of {bytes} bytes")))
        };
        let word = u32::try_from(size_of::<usize>()).unwrap_or(8);
        let kind = ["tstamp_type", "mono_delivery_time"]
            .into_iter()
            .find_map(|name| btf.member("sk_buff", name).ok());
        let skb_tstamp_type = kind.and_then(|member| {
            let byte = i16::try_from(member.byte()).ok()?;
            let (first, bits) = (member.bit % 8, member.bits);
            if !(1..=8).contains(&bits) || first + bits > 8 {
                return None;
            }
            let mask = ((1u32 << bits) - 1) << first;
            let mask = if cfg!(target_endian = "big") {
                mask.reverse_bits() >> 24
            } else {
                mask
            };
            Some((i32::from(byte), mask.cast_signed()))
        });
        Ok(Types {
            ctx_skb: place("bpf_nf_ctx", "skb", word)?,
            skb_len: place("sk_buff", "len", 4)?,
            skb_data_len: place("sk_buff", "data_len", 4)?,
            skb_tstamp: place("sk_buff", "tstamp", 8)?,
            skb_tstamp_type,
            skb_mark: place("sk_buff", "mark", 4)?,
            skb_dev: place("sk_buff", "dev", word)?,
            skb_head: place("sk_buff", "head", word)?,
            skb_data: place("sk_buff", "data", word)?,
            skb_mac_header: place("sk_buff", "mac_header", 2)?,
            dev_ifindex: place("net_device", "ifindex", 4)?,
            dev_type: place("net_device", "type", 2)?,
            dynptr_from_skb: btf.function("bpf_dynptr_from_skb")?,
        })
    }
}

//! The values of tests. What is wrong with one is said in words.

use std::net::IpAddr;

use crate::read::decode::Address;

pub(super) type Parsed<T> = Result<T, String>;

const TCP: Option<u8> = Some(6);
const UDP: Option<u8> = Some(17);

/// A port, and the protocol that a name is of, if it is of one alone: so tcpdump means it, by /etc/services.
pub(super) fn port(text: &str) -> Parsed<(u16, Option<u8>)> {
    const NAMES: [(&str, u16, Option<u8>); 12] = [
        ("ftp", 21, TCP),
        ("ssh", 22, TCP),
        ("telnet", 23, TCP),
        ("smtp", 25, TCP),
        ("domain", 53, None),
        ("http", 80, TCP),
        ("ntp", 123, UDP),
        ("snmp", 161, None),
        ("https", 443, None),
        ("syslog", 514, UDP),
        ("imaps", 993, TCP),
        ("mysql", 3306, TCP),
    ];
    if let Some((_, port, protocol)) = NAMES.iter().find(|(name, ..)| *name == text) {
        return Ok((*port, *protocol));
    }
    match text.parse() {
        Ok(port) => Ok((port, None)),
        Err(_) => Err(format!(
            "`{text}` is no port: a number to 65535, or a well-known name"
        )),
    }
}

/// An address, or with `nets` a network: `192.0.2.0/24`, `192.0.2`, `2001:db8::/32`. Version, address and mask.
pub(super) fn address(text: &str, nets: bool) -> Parsed<(u8, Address, Address)> {
    let what = if nets { "network" } else { "address" };
    let wrong = |why: &str| format!("`{text}` is no {what}{why}");
    let (text, bits) = match text.split_once('/') {
        Some((text, bits)) => {
            let bits: u32 = bits
                .parse()
                .map_err(|_| wrong(": behind `/` stands a number of bits"))?;
            (text, Some(bits))
        }
        None => (text, None),
    };
    let parts = text.split('.').count();
    let padded;
    let (text, implied) = match (nets, text.contains(':'), parts) {
        (true, false, 1..=3) => {
            padded = format!("{text}{}", ".0".repeat(4 - parts));
            (padded.as_str(), u32::try_from(8 * parts).unwrap_or(32))
        }
        (_, true, _) => (text, 128),
        _ => (text, 32),
    };
    let address: IpAddr = text
        .parse()
        .map_err(|_| wrong(": names are not looked up, give the address"))?;
    let (version, address, width): (u8, Address, u32) = match address {
        IpAddr::V4(address) => (4, u32::from(address).into(), 32),
        IpAddr::V6(address) => (6, address.into(), 128),
    };
    let bits = bits.unwrap_or(implied);
    if bits > width {
        return Err(wrong(&format!(": it has {width} bits")));
    }
    let all: Address = if width == 32 {
        u32::MAX.into()
    } else {
        Address::MAX
    };
    let mask = match bits {
        0 => 0,
        bits => all & (Address::MAX << (width - bits)),
    };
    if address & mask != address {
        return Err(wrong(": bits are set behind its length"));
    }
    Ok((version, address, mask))
}

/// A word, or a text in quotes.
pub(super) fn text_of(word: &str) -> String {
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let rest = word.strip_prefix(quote)?;
        Some(rest.strip_suffix(quote).unwrap_or(rest))
    });
    quoted.unwrap_or(word).to_owned()
}

pub(super) fn number(text: &str) -> Parsed<u32> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a length in bytes"))
}

/// Value and mask.
pub(super) fn mark(text: &str) -> Parsed<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    number(value)
        .zip(number(mask))
        .ok_or_else(|| format!("`{text}` is no mark: 0x2a, or 0x2a/0xff"))
}

//! What lwnflog itself has written beside packets, and may stay. Of anything else nobody knows what
//! it tells.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::read::Interface;

/// A rule's prefix has no more (`NF_LOG_PREFIXLEN`).
const PREFIX_BYTES_MAX: usize = 127;
/// An interface's name has no more (`IFNAMSIZ`).
const NAME_BYTES_MAX: usize = 15;

/// Whether lwnflog has described this interface: `NFLOG group 5, port of the bridge br0`.
pub(super) fn is_own(interface: &Interface) -> bool {
    is_name(&interface.name) && described(&interface.description).is_some()
}

/// Whether lwnflog names a ring so: `g5`, `q5`, `prerouting`.
pub(super) fn is_own_ring(ring: &str) -> bool {
    let number = ring.strip_prefix(['g', 'q']);
    HOOKS.contains(&ring) || number.is_some_and(|number| number.parse::<u16>().is_ok())
}

const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

fn described(text: &str) -> Option<()> {
    let mut parts = text.split(", ");
    let source = parts.next()?;
    let number = |text: &str| text.parse::<u64>().is_ok();
    let known = match source.rsplit_once(' ')? {
        ("NFLOG group" | "NFQUEUE queue", which) => number(which),
        ("Netfilter hook", which) => HOOKS.contains(&which),
        _ => false,
    };
    let fits = |part: &str| {
        let first = part.strip_prefix("the first ");
        let first = first.and_then(|rest| rest.strip_suffix(" bytes of each connection"));
        first.is_some_and(number)
            || part.strip_prefix("1 packet of ").is_some_and(number)
            || part
                .strip_prefix("port of the bridge ")
                .is_some_and(is_name)
    };
    (known && parts.all(fits)).then_some(())
}

/// A name as the kernel takes it, which tells no address.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    let address = text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok();
    text.len() <= NAME_BYTES_MAX && text.bytes().all(fits) && !address
}

/// Whether lwnflog has written this comment: `mark=0x0000002a prefix=text`, what of it there is.
pub(super) fn is_own_comment(text: &str) -> bool {
    let is_prefix = |text: &str| {
        let prefix = text.strip_prefix("prefix=");
        prefix.is_some_and(|prefix| prefix.len() <= PREFIX_BYTES_MAX && prefix.is_ascii())
    };
    let Some(mark) = text.strip_prefix("mark=0x") else {
        return is_prefix(text);
    };
    let (digits, rest) = mark.split_at_checked(8).unwrap_or_default();
    let is_mark = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_mark && (rest.is_empty() || rest.strip_prefix(' ').is_some_and(is_prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ones_are_told_from_others() {
        let is = |name: &str, description: &str| {
            is_own(&Interface {
                name: name.to_owned(),
                description: description.to_owned(),
                ..Interface::default()
            })
        };
        for description in [
            "NFLOG group 5",
            "NFQUEUE queue 65535, port of the bridge br0",
            "Netfilter hook forward, 1 packet of 10, the first 4096 bytes of each connection",
        ] {
            assert!(is("eth0.100", description), "{description}");
            assert!(!is("Alice's Wi-Fi", description));
            assert!(!is("192.0.2.1", description));
        }
        for description in [
            "",
            "NFLOG group 5 of Alice",
            "NFLOG group 5, 192.0.2.1",
            "Netfilter hook alice",
            "NFLOG group 5, port of the bridge in Alice's room",
        ] {
            assert!(!is("eth0", description), "{description}");
        }
        for comment in ["mark=0x0000002a", "prefix=ssh: ", "mark=0x0000002a prefix="] {
            assert!(is_own_comment(comment), "{comment}");
        }
        for comment in [
            "",
            "Alice, prefix=x",
            "mark=0x0000002a Alice",
            "mark=0x2a",
            "mark=0xäöüß",
        ] {
            assert!(!is_own_comment(comment), "{comment}");
        }
    }
}

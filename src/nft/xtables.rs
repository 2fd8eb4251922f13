//! Targets of iptables that nftables runs for `iptables-nft`: NFLOG (which newer versions of it
//! translate to `log`) and NFQUEUE.
//!
//! Their structures are in the machine's byte order, unlike nftables' own attributes.

use super::{
    constants::*,
    expression::Handover,
    message::{Attrs, Lookup, c_string},
};

/// What the target of a `target` expression hands over, if it is one of the two that do.
pub(super) fn handover(data: &Attrs) -> Option<Handover> {
    let name = data.string(NFTA_TARGET_NAME)?;
    let revision = data.be32(NFTA_TARGET_REV).unwrap_or(0);
    let info = data.bytes(NFTA_TARGET_INFO)?;
    match name.as_str() {
        "NFLOG" => xt_nflog(info),
        "NFQUEUE" => xt_nfqueue(revision, info),
        _ => None,
    }
}

/// `struct xt_nflog_info` of `linux/netfilter/xt_NFLOG.h`.
fn xt_nflog(info: &[u8]) -> Option<Handover> {
    const XT_NFLOG_F_COPY_LEN: u16 = 0x1;
    let len = u32::from_ne_bytes(info.get(..4)?.try_into().ok()?);
    let flags = ne16(info, 8)?;
    Some(Handover {
        prefix: Some(c_string(info.get(12..76)?)).filter(|text| !text.is_empty()),
        snaplen: (flags & XT_NFLOG_F_COPY_LEN != 0).then_some(len),
        queue_threshold: Some(ne16(info, 6)?).filter(|&packets| packets > 0),
        ..Handover::group(ne16(info, 4)?)
    })
}

/// `struct xt_NFQ_info` and its later revisions, of `linux/netfilter/xt_NFQUEUE.h`.
fn xt_nfqueue(revision: u32, info: &[u8]) -> Option<Handover> {
    const NFQ_FLAG_BYPASS: u16 = 0x01;
    let total = if revision >= 1 { ne16(info, 2)? } else { 1 };
    let bypass = match revision {
        0 | 1 => false,
        2 => ne16(info, 4)? != 0,
        _ => ne16(info, 4)? & NFQ_FLAG_BYPASS != 0,
    };
    Some(Handover::queues(ne16(info, 0)?, total, bypass))
}

fn ne16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nft::message::{attrs, be32, bytes, string};

    fn xt(name: &str, revision: u32, info: &[u8]) -> Option<Handover> {
        let data = attrs([
            string(NFTA_TARGET_NAME, name),
            be32(NFTA_TARGET_REV, revision),
            bytes(NFTA_TARGET_INFO, info),
        ])
        .unwrap();
        handover(&data)
    }

    #[test]
    fn targets_of_iptables() {
        let mut info = Vec::new();
        info.extend(96u32.to_ne_bytes());
        for field in [5u16, 1, 1, 0] {
            info.extend(field.to_ne_bytes());
        }
        info.extend(b"text\0");
        info.resize(80, 0); // the kernel pads it to 8 bytes
        let expected = Handover {
            prefix: Some("text".to_owned()),
            snaplen: Some(96),
            queue_threshold: Some(1),
            ..Handover::group(5)
        };
        assert_eq!(xt("NFLOG", 0, &info), Some(expected));
        assert_eq!(xt("NFLOG", 0, &info[..40]), None, "too short");

        let words = |list: &[u16]| {
            list.iter()
                .flat_map(|w| w.to_ne_bytes())
                .collect::<Vec<u8>>()
        };
        let info = words(&[5, 4, 3]);
        let queues = |count, bypass| Some(Handover::queues(5, count, bypass));
        assert_eq!(xt("NFQUEUE", 0, &info[..2]), queues(1, false));
        assert_eq!(xt("NFQUEUE", 1, &info[..4]), queues(4, false));
        assert_eq!(xt("NFQUEUE", 2, &info), queues(4, true));
        assert_eq!(xt("NFQUEUE", 3, &info), queues(4, true));
        assert_eq!(xt("NFQUEUE", 3, &words(&[5, 4, 2])), queues(4, false));
        assert_eq!(xt("MARK", 0, &info), None);
        assert_eq!(
            Handover::queues(65535, 9, true).numbers().last(),
            Some(65535)
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            revision in 0..5u32,
            info in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = (xt("NFLOG", revision, &info), xt("NFQUEUE", revision, &info));
        }
    }
}

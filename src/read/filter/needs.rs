//! What a filter needs of a segment, to find a packet in it.

use super::{Filter, Node, Way};
use crate::index::{self, Key, Segment};
use crate::read::decode::Address;

/// Ports of a range are asked for one by one, if they are no more than this.
const PORTS_MAX: u16 = 16;

impl Filter {
    /// Whether a segment may hold a packet that the filter takes. If this is false, it holds none.
    pub fn may_take_of(&self, segment: &Segment, keys: &index::Filter<'_>) -> bool {
        let root = self.root.as_ref();
        root.is_none_or(|root| root.may_take_of(segment, keys))
    }

    /// Whether there are segments that the filter takes nothing of, as their index says.
    pub fn is_selective(&self) -> bool {
        !self.may_take_of(&Segment::default(), &index::Filter::nothing())
    }
}

impl Node {
    fn may_take_of(&self, segment: &Segment, keys: &index::Filter<'_>) -> bool {
        match self {
            Node::And(one, other) => {
                one.may_take_of(segment, keys) && other.may_take_of(segment, keys)
            }
            Node::Or(one, other) => {
                one.may_take_of(segment, keys) || other.may_take_of(segment, keys)
            }
            Node::Net(
                Way::Source | Way::Destination | Way::Either | Way::Both,
                version,
                address,
                mask,
            ) => net(*version, *address, *mask, keys),
            Node::Ports(_, first, last, protocol) => {
                let right = protocol.is_none_or(|wanted| keys.may_hold(Key::protocol(wanted)));
                right
                    && (last - first >= PORTS_MAX
                        || (*first..=*last).any(|port| keys.may_hold(Key::port(port))))
            }
            Node::Protocol(_, Some(protocol)) => keys.may_hold(Key::protocol(*protocol)),
            Node::Lost => segment.lost != 0,
            // What is not there is in no index.
            Node::Not(_)
            | Node::Protocol(_, None)
            | Node::Interface(_)
            | Node::Mark(..)
            | Node::Prefix(_)
            | Node::AtMost(_)
            | Node::AtLeast(_) => true,
        }
    }
}

/// An address, or a network that is not wider than those of the index.
fn net(version: u8, address: Address, mask: Address, keys: &index::Filter<'_>) -> bool {
    let width = if version == 4 { 32 } else { 128 };
    let behind = width - mask.count_ones();
    match behind {
        0 => keys.may_hold(Key::address(version, address)),
        behind if behind <= Key::net_shift(version) => keys.may_hold_net(version, address),
        _ => true,
    }
}

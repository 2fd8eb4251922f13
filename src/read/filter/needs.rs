//! What a filter needs of a segment, to find a packet in it.

use super::program::{Step, TAKEN};
use super::{Filter, Test};
use crate::index::{self, Key, Segment};
use crate::read::decode::Address;

/// Ports of a range are asked for one by one, if they are no more than this.
const PORTS_MAX: u16 = 16;

impl Filter {
    /// Whether a segment may hold a packet that the filter takes. If this is false, it holds none.
    pub fn may_take_of(&self, segment: &Segment, keys: &index::Filter<'_>) -> bool {
        if self.steps.is_empty() {
            return true;
        }
        // Any test may be false of a packet, and some can be true of none in the segment.
        let mut reached = Reached::of(self.steps.len());
        reached.put(0);
        for (
            place,
            Step {
                test,
                if_true,
                if_false,
            },
        ) in self.steps.iter().enumerate()
        {
            if !reached.has(place) {
                continue;
            }
            let ways = [
                Some(*if_false),
                test.may_be_true(segment, keys).then_some(*if_true),
            ];
            for way in ways.into_iter().flatten() {
                if way == TAKEN {
                    return true;
                }
                reached.put(way as usize);
            }
        }
        false
    }

    /// Whether there are segments that the filter takes nothing of, as their index says.
    pub fn is_selective(&self) -> bool {
        !self.may_take_of(&Segment::default(), &index::Filter::nothing())
    }
}

/// Steps that a packet may come to.
enum Reached {
    Few(u128),
    Many(Vec<bool>),
}

impl Reached {
    fn of(steps: usize) -> Reached {
        match steps {
            ..=128 => Reached::Few(0),
            _ => Reached::Many(vec![false; steps]),
        }
    }

    fn put(&mut self, step: usize) {
        match self {
            Reached::Few(bits) if step < 128 => *bits |= 1 << step,
            Reached::Few(_) => {}
            Reached::Many(all) => {
                if let Some(one) = all.get_mut(step) {
                    *one = true;
                }
            }
        }
    }

    fn has(&self, step: usize) -> bool {
        match self {
            Reached::Few(bits) => bits >> step & 1 != 0,
            Reached::Many(all) => all.get(step).copied().unwrap_or(true),
        }
    }
}

impl Test {
    fn may_be_true(&self, segment: &Segment, keys: &index::Filter<'_>) -> bool {
        match self {
            Test::Net(_, version, address, mask) => net(*version, *address, *mask, keys),
            Test::Ports(_, first, last, protocol) => {
                let right = protocol.is_none_or(|wanted| keys.may_hold(Key::protocol(wanted)));
                right
                    && (last - first >= PORTS_MAX
                        || (*first..=*last).any(|port| keys.may_hold(Key::port(port))))
            }
            Test::Protocol(_, protocol) => keys.may_hold(Key::protocol(*protocol)),
            Test::Lost => segment.lost != 0,
            // The index does not say it.
            Test::Version(_)
            | Test::Interface(_)
            | Test::Mark(..)
            | Test::Prefix(_)
            | Test::AtMost(_)
            | Test::AtLeast(_) => true,
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

//! TCP's options: those that tell no address stay.

use crate::checksum::sum;

const FIXED: usize = 20;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Puts no operation in the place of each option that may tell an address (MPTCP's ADD_ADDR, the
/// client's address from a load balancer), and nothing behind the end of all. Returns how long the
/// header is, and the sums of the options before and after.
pub(super) fn clear_tcp_options(segment: &mut [u8]) -> (usize, (u64, u64)) {
    let header = segment
        .get(12)
        .map_or(FIXED, |offset| usize::from(offset >> 4) * 4);
    let end = header.min(segment.len());
    let Some(options) = segment.get_mut(FIXED..end) else {
        return (header, (0, 0));
    };
    let before = sum(options);
    clear(options);
    (header, (before, sum(options)))
}

fn clear(mut options: &mut [u8]) {
    while let Some(kind) = options.first().copied() {
        let len = match (kind, options.get(1).copied().map(usize::from)) {
            (END, _) => return options.fill(END),
            (NO_OPERATION, _) => 1,
            (_, Some(len)) if len >= 2 && len <= options.len() => {
                if !tells_nobody(kind, len) {
                    options[..len].fill(NO_OPERATION);
                }
                len
            }
            // It is cut, or no option.
            _ => return options.fill(NO_OPERATION),
        };
        options = &mut options[len..];
    }
}

/// Largest segment, window scale, selective acknowledgements, time stamps; of the length that they
/// have.
fn tells_nobody(kind: u8, len: usize) -> bool {
    match kind {
        2 => len == 4,
        3 => len == 3,
        4 => len == 2,
        5 => len >= 10 && len % 8 == 2,
        8 => len == 10,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_tell_addresses_go() {
        let cleared = |options: &[u8]| {
            let mut options = options.to_vec();
            clear(&mut options);
            options
        };
        let plain = [
            2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7,
        ];
        assert_eq!(cleared(&plain), plain);
        let announced = [30, 8, 0x30, 1, 10, 77, 88, 99];
        let both = [&plain[..4], &announced, &plain[16..]].concat();
        let expected = [&plain[..4], &[1; 8], &plain[16..]].concat();
        assert_eq!(cleared(&both), expected);
        assert_eq!(
            cleared(&[2, 6, 10, 77, 88, 99]),
            [1; 6],
            "of another length"
        );
        assert_eq!(cleared(&[254, 8, 10, 77]), [1; 4], "cut");
        assert_eq!(cleared(&[254, 1, 10, 77]), [1; 4], "no length");
        assert_eq!(cleared(&[1, 0, 10, 77]), [1, 0, 0, 0], "behind the end");
    }
}

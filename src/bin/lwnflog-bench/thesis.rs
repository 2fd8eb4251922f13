//! The thesis's own figures: tables 4.1 to 4.6.

/// Frame sizes of every table.
pub(crate) const SIZES: [usize; 3] = [64, 256, 1500];

/// Table 4.1, by frame size; the packets sent are [`SENT`].
pub(crate) const MEGABITS_PER_SEC: [&str; 3] = ["117.84", "339.63", "766.54"];
pub(crate) const PACKETS_PER_SEC: [&str; 3] = ["241,325", "146,315", "66,982"];
pub(crate) const SECONDS: [&str; 3] = ["218.13", "146.32", "153.29"];

/// Packets sent in every test, by frame size.
pub(crate) const SENT: [u64; 3] = [52_639_180, 25_442_196, 10_262_260];

/// Tables 4.3 and 4.4: packets lost while counting, by frame size.
pub(crate) struct Counting {
    pub(crate) tool: &'static str,
    pub(crate) kernel: &'static str,
    pub(crate) lost: [u64; 3],
}

const fn counting(kernel: &'static str, tool: &'static str, lost: [u64; 3]) -> Counting {
    Counting { tool, kernel, lost }
}

pub(crate) const COUNTING: [Counting; 10] = [
    counting("2.4.24", "tcpdump", [25_458, 0, 0]),
    counting("2.4.24", "turbo-tcpdump", [0, 0, 0]),
    counting("2.4.24", "lwpcap, NIC driver hook", [0, 0, 0]),
    counting("2.4.24", "lwpcap, protocol handler hook", [0, 0, 0]),
    counting("2.4.24", "lwpcap, Netfilter hook", [0, 0, 0]),
    counting("2.6.0", "tcpdump", [10_213_577, 903_977, 0]),
    counting("2.6.0", "turbo-tcpdump", [0, 0, 0]),
    counting("2.6.0", "lwpcap, NIC driver hook", [0, 0, 0]),
    counting("2.6.0", "lwpcap, protocol handler hook", [0, 0, 0]),
    counting("2.6.0", "lwpcap, Netfilter hook", [0, 0, 0]),
];

/// Tables 4.5 and 4.6: (not detected, dropped) while writing, by frame size.
pub(crate) struct Writing {
    pub(crate) tool: &'static str,
    pub(crate) kernel: &'static str,
    pub(crate) lost: [(u64, u64); 3],
}

const fn writing(kernel: &'static str, tool: &'static str, lost: [(u64, u64); 3]) -> Writing {
    Writing { tool, kernel, lost }
}

pub(crate) const WRITING: [Writing; 10] = [
    writing(
        "2.4.24",
        "tcpdump",
        [(0, 3_830_806), (0, 491_803), (0, 15_152)],
    ),
    writing(
        "2.4.24",
        "turbo-tcpdump",
        [(0, 148_886), (0, 13_994), (0, 0)],
    ),
    writing(
        "2.4.24",
        "lwpcap, NIC driver hook",
        [(41_261, 0), (20_752, 0), (0, 0)],
    ),
    writing(
        "2.4.24",
        "lwpcap, protocol handler hook",
        [(89_470, 117), (26_745, 0), (155, 0)],
    ),
    writing(
        "2.4.24",
        "lwpcap, Netfilter hook",
        [(128_271, 2_315), (50_711, 438), (4_041, 0)],
    ),
    writing(
        "2.6.0",
        "tcpdump",
        [(0, 14_197_155), (0, 3_034_480), (0, 0)],
    ),
    writing("2.6.0", "turbo-tcpdump", [(0, 0), (0, 0), (0, 0)]),
    writing(
        "2.6.0",
        "lwpcap, NIC driver hook",
        [(0, 1_264_444), (0, 352_217), (0, 0)],
    ),
    writing(
        "2.6.0",
        "lwpcap, protocol handler hook",
        [(0, 1_829_665), (0, 1_030_822), (0, 96_780)],
    ),
    writing(
        "2.6.0",
        "lwpcap, Netfilter hook",
        [(0, 828_445), (0, 302_732), (0, 0)],
    ),
];

/// In percent of what was sent.
pub(crate) fn percent(lost: u64, size_index: usize) -> f64 {
    100.0 * lost as f64 / SENT.get(size_index).copied().unwrap_or(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_those_printed_in_the_thesis() {
        let lost = |kernel, tool, size: usize| {
            let row = WRITING
                .iter()
                .find(|row| (row.kernel, row.tool) == (kernel, tool))
                .unwrap();
            percent(row.lost[size].0 + row.lost[size].1, size)
        };
        for (kernel, tool, size, printed) in [
            ("2.4.24", "tcpdump", 0, 7.3),
            ("2.4.24", "tcpdump", 1, 1.9),
            ("2.4.24", "lwpcap, Netfilter hook", 1, 0.2),
            ("2.6.0", "tcpdump", 0, 27.0),
            ("2.6.0", "lwpcap, NIC driver hook", 1, 1.4),
            ("2.6.0", "lwpcap, protocol handler hook", 2, 0.9),
            ("2.6.0", "lwpcap, Netfilter hook", 0, 1.6),
        ] {
            assert!(
                (lost(kernel, tool, size) - printed).abs() < 0.06,
                "{kernel} {tool} {size}"
            );
        }
    }
}

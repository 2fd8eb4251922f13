//! Figures over time: as many columns as a chart shows, however long the capture was.

use std::collections::BTreeMap;

/// Columns of a chart at the most.
const COLUMNS_MAX: u64 = 240;
/// What a column may be long, in milliseconds; each divides the next.
const WIDTHS_MS: [u64; 16] = [
    10,
    50,
    100,
    500,
    1000,
    5000,
    10_000,
    30_000,
    60_000,
    300_000,
    600_000,
    1_800_000,
    3_600_000,
    21_600_000,
    86_400_000,
    604_800_000,
];

/// What one column sums up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) tcp: u64,
    pub(super) udp: u64,
    pub(super) icmp: u64,
    pub(super) lost: u64,
    pub(super) syn: u64,
    pub(super) syn_ack: u64,
    pub(super) fin: u64,
    pub(super) rst: u64,
    pub(super) new_sources: u64,
}

impl Column {
    fn add(&mut self, other: &Column) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.tcp += other.tcp;
        self.udp += other.udp;
        self.icmp += other.icmp;
        self.lost = self.lost.saturating_add(other.lost);
        self.syn += other.syn;
        self.syn_ack += other.syn_ack;
        self.fin += other.fin;
        self.rst += other.rst;
        self.new_sources += other.new_sources;
    }
}

/// Columns by time.
#[derive(Debug, Default)]
pub(super) struct Series {
    columns: BTreeMap<u64, Column>,
    /// Which of the widths.
    width: usize,
}

impl Series {
    /// How long a column is, in nanoseconds.
    pub(super) fn column_ns(&self) -> u64 {
        WIDTHS_MS[self.width] * 1_000_000
    }

    /// The column of a time.
    pub(super) fn at(&mut self, time_ns: u64) -> &mut Column {
        while self.width + 1 < WIDTHS_MS.len() && self.span_with(time_ns) > COLUMNS_MAX {
            self.widen();
        }
        self.columns.entry(time_ns / self.column_ns()).or_default()
    }

    /// How many columns there would be.
    fn span_with(&self, time_ns: u64) -> u64 {
        let now = time_ns / self.column_ns();
        let first = self.columns.keys().next().copied().unwrap_or(now).min(now);
        let last = self
            .columns
            .keys()
            .next_back()
            .copied()
            .unwrap_or(now)
            .max(now);
        last - first + 1
    }

    fn widen(&mut self) {
        let times = WIDTHS_MS[self.width + 1] / WIDTHS_MS[self.width];
        self.width += 1;
        let mut wider: BTreeMap<u64, Column> = BTreeMap::new();
        for (place, column) in &self.columns {
            wider.entry(place / times).or_default().add(column);
        }
        self.columns = wider;
    }

    /// How long a column is.
    pub(super) fn column_secs(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few days at the most")]
        let ms = WIDTHS_MS[self.width] as f64;
        ms / 1000.0
    }

    /// A clock that was set by years leaves more than a chart has room for.
    fn last_drawn(first: u64) -> u64 {
        first + 2 * COLUMNS_MAX
    }

    /// Packets that are in no chart: they come years after the first.
    pub(super) fn not_drawn(&self) -> u64 {
        let first = self.columns.keys().next().copied().unwrap_or(0);
        let beyond = self.columns.range(Self::last_drawn(first) + 1..);
        beyond.map(|(_, column)| column.packets).sum()
    }

    /// All columns from the first to the last, those without packets too, and when the first begins.
    pub(super) fn columns(&self) -> (u64, Vec<Column>) {
        let (Some(first), Some(last)) = (
            self.columns.keys().next().copied(),
            self.columns.keys().next_back().copied(),
        ) else {
            return (0, Vec::new());
        };
        let column = |place: u64| self.columns.get(&place).copied().unwrap_or_default();
        let last = last.min(Self::last_drawn(first));
        let columns = (first..=last).map(column).collect();
        (first * self.column_ns(), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_with_the_time_and_keep_what_they_hold() {
        let mut series = Series::default();
        let second = 1_000_000_000;
        for time in 0..5000_u64 {
            series
                .at(1_700_000_000 * second + time * second / 10)
                .packets += 1;
        }
        let (start, columns) = series.columns();
        assert!(
            columns.len() <= 240 && columns.len() > 48,
            "{}",
            columns.len()
        );
        assert_eq!(start, 1_700_000_000 * second);
        let packets: u64 = columns.iter().map(|column| column.packets).sum();
        assert_eq!(packets, 5000);
        assert!((series.column_secs() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_drawn_is_counted() {
        let mut series = Series::default();
        for time in [0, 1, 1_764_252_000_000_000_000] {
            series.at(time).packets += 1;
        }
        let drawn: u64 = series.columns().1.iter().map(|column| column.packets).sum();
        assert_eq!((drawn, series.not_drawn()), (2, 1));
    }

    #[test]
    fn an_earlier_packet_comes_late() {
        let mut series = Series::default();
        for time in [1_000_000_000, 50_000_000, 990_000_000] {
            series.at(time).lost += 1;
        }
        let lost: u64 = series.columns().1.iter().map(|column| column.lost).sum();
        assert_eq!(lost, 3);
    }
}

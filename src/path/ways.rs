//! How many packets went which way, and how long it took.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::full::micros;
use super::{Packet, Place, Seen};
use crate::numbers::grouped;

/// Ways that are told apart; packets of others are summed up.
const WAYS_MAX: usize = 1000;
/// Times from a place to the next are kept of so many in all.
const LEGS_MAX: usize = 2048;
/// A longer time is shown as this one: no packet is so long on its way.
const LEG_NS_MAX: u64 = 2_000_000_000;
/// Decimal digits of times that are kept.
const DIGITS: u8 = 2;

/// Packets by their ways.
#[derive(Debug, Default)]
pub struct Ways {
    ways: HashMap<Vec<Place>, Way>,
    packets: u64,
    sights: u64,
    fragments: u64,
    renamed: u64,
    doubtful: u64,
    /// Packets with several times, of which all are the same.
    stamped_once: u64,
    /// Where packets were seen last.
    last: HashMap<Place, Last>,
    /// Packets of ways beyond the first thousand.
    of_other_ways: u64,
    /// Of so many places in all times are kept.
    legs: usize,
    /// Ways whose times found no room.
    without_times: u64,
}

/// Packets that were seen last at a place.
#[derive(Debug, Default)]
struct Last {
    packets: u64,
    fragments: u64,
}

/// Packets of one way.
#[derive(Debug)]
struct Way {
    packets: u64,
    /// From each sight to the next, nanoseconds, of those whose time is known.
    legs: Vec<Histogram<u32>>,
    first: Packet,
}

impl Ways {
    /// Packets that were added.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Adds a packet whose way has ended.
    pub fn add(&mut self, packet: Packet) {
        self.packets += 1;
        self.fragments += u64::from(packet.fragment);
        self.renamed += u64::from(packet.sights.iter().any(|sight| sight.renamed.is_some()));
        self.doubtful += u64::from(packet.doubtful);
        self.sights += packet.sights.len() as u64;
        let at_hooks = packet.is_timed_at_hooks();
        self.stamped_once += u64::from(packet.is_stamped_once());
        let places: Vec<_> = packet
            .sights
            .iter()
            .map(|sight| sight.place.clone())
            .collect();
        if let Some(place) = places.last() {
            let last = self.last.entry(place.clone()).or_default();
            last.packets += 1;
            last.fragments += u64::from(packet.fragment);
        }
        let room = self.ways.len() < WAYS_MAX;
        if !room && !self.ways.contains_key(&places) {
            self.of_other_ways += 1;
            return;
        }
        let mut legs = places.len() - 1;
        let way = self.ways.entry(places).or_insert_with(|| {
            if self.legs + legs > LEGS_MAX {
                legs = 0;
                self.without_times += 1;
            }
            self.legs += legs;
            Way {
                packets: 0,
                legs: vec![histogram(); legs],
                first: packet.clone(),
            }
        });
        way.packets += 1;
        if at_hooks {
            for (leg, pair) in way.legs.iter_mut().zip(packet.sights.windows(2)) {
                if let [Some(from), Some(to)] = [pair[0].time_ns, pair[1].time_ns] {
                    // It grows as it must.
                    let _ = leg.record(to.saturating_sub(from).min(LEG_NS_MAX));
                }
            }
        }
    }

    /// The summary: ways, where packets were seen last, what the figures leave out, an example of each way.
    pub fn text(&self, seen: Seen, show: &impl Fn(&Packet) -> String) -> String {
        let packets = if self.packets == 1 {
            "packet"
        } else {
            "packets"
        };
        let mut text = format!(
            "{} {packets}, seen {} times\n",
            grouped(self.packets),
            grouped(self.sights)
        );
        let mut ways: Vec<_> = self.ways.iter().collect();
        ways.sort_by_cached_key(|(places, way)| (Reverse(way.packets), named(places)));
        self.table(&ways, &mut text);
        self.last_seen(&mut text);
        self.notes(seen, &mut text);
        let of = match ways.len() {
            0..=EXAMPLES_MAX => "each way",
            _ => "each of the ways that most have gone",
        };
        let _ = writeln!(text, "\nThe first packet of {of}:");
        for (_, way) in ways.iter().take(EXAMPLES_MAX) {
            let _ = write!(text, "\n{}", show(&way.first));
        }
        text
    }

    fn table(&self, ways: &[(&Vec<Place>, &Way)], text: &mut String) {
        let widest = ways.iter().map(|(places, _)| named(places).chars().count());
        let width = widest.max().unwrap_or(0).clamp(20, 60);
        let _ = writeln!(
            text,
            "\n{:<width$}  {:>12}  {:>8}  µs from each to the next, median (99 %)",
            "way", "packets", "share"
        );
        for (places, way) in ways {
            let legs: Vec<_> = way.legs.iter().map(leg).collect();
            let line = format!(
                "{:<width$}  {:>12}  {:>6.2} %  {}",
                named(places),
                grouped(way.packets),
                percent(way.packets, self.packets),
                legs.join(", ")
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if self.of_other_ways != 0 {
            let _ = writeln!(
                text,
                "{:<width$}  {:>12}",
                "other ways",
                grouped(self.of_other_ways)
            );
        }
    }

    fn last_seen(&self, text: &mut String) {
        let mut last: Vec<_> = self.last.iter().collect();
        last.sort_by_cached_key(|(place, last)| (Reverse(last.packets), place.to_string()));
        let _ = writeln!(text, "\n{:<20}  {:>12}", "last seen at", "packets");
        for (place, Last { packets, fragments }) in last {
            let _ = write!(text, "{:<20}  {:>12}", place.to_string(), grouped(*packets));
            if *fragments != 0 {
                let _ = write!(text, "  ({} fragments)", grouped(*fragments));
            }
            text.push('\n');
        }
    }

    /// Where packets were seen at all.
    fn places_seen(&self) -> Vec<&Place> {
        let mut seen: Vec<&Place> = Vec::new();
        for place in self.ways.keys().flatten() {
            if !seen.contains(&place) {
                seen.push(place);
            }
        }
        seen
    }

    /// What the figures do not say by themselves.
    fn notes(&self, seen: Seen, text: &mut String) {
        let mut notes = Vec::new();
        if seen.lost != 0 {
            notes.push(format!(
                "Lost by the captures: {} records. So many places are missing in ways, or whole packets.",
                grouped(seen.lost)
            ));
        }
        if let [one] = &self.places_seen()[..] {
            notes.push(format!(
                "All were seen at one place, {one}: `lwnflog rules --trace` prints rules for several hooks."
            ));
        }
        if seen.sampled {
            notes.push(
                "A capture took one packet in so many only: others seem not to have come there."
                    .to_owned(),
            );
        }
        let counted = [
            (
                self.fragments,
                "Fragments: ",
                "Those for this host, and where connections are tracked all of them, are put together behind \
                 prerouting: one packet goes on.",
            ),
            (self.renamed, "Addresses or ports were translated of ", ""),
            (
                self.doubtful,
                "Not certain: ",
                "Others that came at the same time look alike, and were translated, too.",
            ),
            (
                self.stamped_once,
                "The same time at all places: ",
                "They took less than the clock shows, or have the time of their arrival everywhere: the machine \
                 stamps packets while any program asks for that, as ping and time daemons do.",
            ),
            (seen.without_way, "No IP packet, or too little of one: ", ""),
            (
                seen.given_up,
                "Ended early: ",
                "More packets than there is room for were on their way at once.",
            ),
        ];
        if self.without_times != 0 {
            notes.push(format!(
                "Times are not shown of {} ways: they found no room.",
                grouped(self.without_times)
            ));
        }
        for (count, what, why) in counted {
            if count != 0 {
                let packets = if count == 1 { "packet" } else { "packets" };
                notes.push(format!("{what}{} {packets}. {why}", grouped(count)));
            }
        }
        if !notes.is_empty() {
            let notes: Vec<_> = notes.iter().map(|note| note.trim_end()).collect();
            let _ = write!(text, "\n{}\n", notes.join("\n"));
        }
    }
}

/// Ways of which an example is shown.
const EXAMPLES_MAX: usize = 10;

fn histogram() -> Histogram<u32> {
    Histogram::new(DIGITS).expect("a histogram takes 0 to 5 digits")
}

fn named(places: &[Place]) -> String {
    let names: Vec<_> = places.iter().map(ToString::to_string).collect();
    names.join(" > ")
}

/// Median and 99th percentile of a leg, or that nothing is known of it.
fn leg(times: &Histogram<u32>) -> String {
    if times.is_empty() {
        return "-".to_owned();
    }
    let at = |quantile| micros(times.median_equivalent(times.value_at_quantile(quantile)));
    format!("{} ({})", at(0.5), at(0.99))
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

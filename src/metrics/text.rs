//! The text of a scrape (Prometheus' text format 0.0.4).
//!
//! What is not known has no sample: `lwnflog_detected_known` says so, and an alert can ask.

use prometheus::{
    Counter, Encoder, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::Scrape;
use crate::account::snapshot::Figures;

/// What the answer is, for its header.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// One scrape's families.
struct Families<'a> {
    registry: Registry,
    scrape: &'a Scrape,
}

type Made = prometheus::Result<()>;

impl Families<'_> {
    fn sources(&self) -> impl Iterator<Item = (&str, &Figures)> {
        let names = self.scrape.sources.iter().map(String::as_str);
        names.zip(&self.scrape.snapshot.sources)
    }

    /// A counter of each source, of what is known.
    fn counter(&self, name: &str, help: &str, value: impl Fn(&Figures) -> Option<u64>) -> Made {
        let family = IntCounterVec::new(Opts::new(name, help), &["source"])?;
        for (source, figures) in self.sources() {
            if let Some(value) = value(figures) {
                family.with_label_values(&[source]).inc_by(value);
            }
        }
        self.registry.register(Box::new(family))
    }

    /// A counter of each source and place or reason.
    fn counters(
        &self,
        (name, help, label): (&str, &str, &str),
        values: impl Fn(&Figures) -> Vec<(&'static str, Option<u64>)>,
    ) -> Made {
        let family = IntCounterVec::new(Opts::new(name, help), &["source", label])?;
        for (source, figures) in self.sources() {
            for (of, value) in values(figures) {
                if let Some(value) = value {
                    family.with_label_values(&[source, of]).inc_by(value);
                }
            }
        }
        self.registry.register(Box::new(family))
    }

    fn gauge(&self, name: &str, help: &str, value: Option<u64>) -> Made {
        let Some(value) = value else {
            return Ok(());
        };
        let gauge = IntGauge::with_opts(Opts::new(name, help))?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.registry.register(Box::new(gauge))
    }

    fn all(&self) -> Made {
        let build = IntGaugeVec::new(
            Opts::new("lwnflog_build_info", "The version that runs; always 1."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        self.registry.register(Box::new(build))?;
        self.counter(
            "lwnflog_detected_packets_total",
            "Packets that the rule counted, or the program at the hook. No sample: not known.",
            |figures| figures.detected,
        )?;
        let known = GaugeVec::new(
            Opts::new(
                "lwnflog_detected_known",
                "1 where lwnflog_detected_packets_total is known, 0 where no rule counts.",
            ),
            &["source"],
        )?;
        for (source, figures) in self.sources() {
            let known_here = f64::from(u8::from(figures.detected.is_some()));
            known.with_label_values(&[source]).set(known_here);
        }
        self.registry.register(Box::new(known))?;
        self.counter(
            "lwnflog_received_packets_total",
            "Packets that arrived here.",
            |figures| Some(figures.received),
        )?;
        self.counter(
            "lwnflog_written_packets_total",
            "Packets recorded.",
            |figures| Some(figures.written),
        )?;
        self.counter(
            "lwnflog_taken_packets_total",
            "Of the packets recorded, those in files that others then removed, cut or overwrote.",
            |figures| Some(figures.taken),
        )?;
        self.counter(
            "lwnflog_discarded_packets_total",
            "Packets counted and thrown away (--discard).",
            |figures| Some(figures.discarded),
        )?;
        self.counters(
            (
                "lwnflog_dropped_packets_total",
                "Packets lost, by place: overrun (buffer or ring), allocation, queue, no_ring (a processor that came later), nested, writer. No sample: not known.",
                "place",
            ),
            |figures| {
                let dropped = figures.dropped;
                vec![
                    ("overrun", Some(dropped.overrun)),
                    ("allocation", dropped.allocation),
                    ("queue", dropped.queue),
                    ("no_ring", dropped.no_ring),
                    ("nested", dropped.nested),
                    ("writer", Some(dropped.writer)),
                ]
            },
        )?;
        self.counters(
            (
                "lwnflog_skipped_packets_total",
                "Packets that arrived and were passed over on purpose, by reason.",
                "reason",
            ),
            |figures| {
                vec![
                    ("other_family", Some(figures.skipped_other_family)),
                    ("malformed", Some(figures.skipped_malformed)),
                    ("beyond_count", Some(figures.skipped_beyond_count)),
                    ("paused", Some(figures.skipped_paused)),
                ]
            },
        )?;
        self.counters(
            (
                "lwnflog_left_out_packets_total",
                "Packets that the program at the hook left out on purpose, by reason.",
                "reason",
            ),
            |figures| match figures.left_out {
                None => Vec::new(),
                Some(left) => vec![
                    ("interface", Some(left.interface)),
                    ("mark", Some(left.mark)),
                    ("sample", Some(left.sample)),
                    ("cutoff", Some(left.cutoff)),
                    ("paused", Some(left.paused)),
                ],
            },
        )?;
        self.counter(
            "lwnflog_unstamped_packets_total",
            "Packets that carry the time of their arrival, because the kernel gave none.",
            |figures| Some(figures.unstamped),
        )?;
        self.counter(
            "lwnflog_written_bytes_total",
            "Bytes of records and blocks written.",
            |figures| Some(figures.bytes),
        )?;
        self.counter(
            "lwnflog_batches_total",
            "Batches received; received packets divided by it is the fill of a batch.",
            |figures| Some(figures.batches),
        )?;
        self.counter("lwnflog_files_begun_total", "Files begun.", |figures| {
            Some(figures.files_begun)
        })?;
        self.counter(
            "lwnflog_stalls_total",
            "Times the next file was late.",
            |figures| Some(figures.stalls),
        )?;
        self.rest()
    }

    /// What is of the whole capture.
    fn rest(&self) -> Made {
        let scrape = self.scrape;
        let seconds = |us: u64| std::time::Duration::from_micros(us).as_secs_f64();
        let stalled = Counter::new(
            "lwnflog_stalled_seconds_total",
            "How long capturing waited for files, all sources.",
        )?;
        stalled.inc_by(seconds(scrape.snapshot.total.stalled_us));
        self.registry.register(Box::new(stalled))?;
        let before = IntCounter::new(
            "lwnflog_before_hook_dropped_packets_total",
            "Packets that interfaces and the backlog dropped before they came to the hook.",
        )?;
        before.inc_by(scrape.before_hook);
        self.registry.register(Box::new(before))?;
        let elapsed = prometheus::Gauge::new(
            "lwnflog_elapsed_seconds",
            "How long the capture has been running.",
        )?;
        elapsed.set(scrape.snapshot.elapsed.as_secs_f64());
        self.registry.register(Box::new(elapsed))?;
        self.gauge(
            "lwnflog_paused",
            "1 while nothing is copied.",
            Some(u64::from(scrape.paused)),
        )?;
        self.gauge(
            "lwnflog_granted_buffer_bytes",
            "Receive buffer that the kernel has granted each source; of a hook, its rings in sum.",
            Some(scrape.granted_buffer_bytes),
        )?;
        self.gauge(
            "lwnflog_unread_packets",
            "Packets that a stream's reader has not taken yet. No sample: no stream.",
            scrape.snapshot.total.unread,
        )?;
        let beyond = scrape.snapshot.total.beyond_rate;
        if let Some(beyond) = beyond {
            let counter = IntCounter::new(
                "lwnflog_beyond_rate_packets_total",
                "Packets that --rate-limit passed over, before they were detected. No sample: no limit, or not known.",
            )?;
            counter.inc_by(beyond);
            self.registry.register(Box::new(counter))?;
        }
        self.gauge(
            "lwnflog_disk_limit_bytes",
            "What the files may come to take. No sample: no limit, or no files.",
            scrape.disk_limit_bytes,
        )?;
        self.gauge(
            "lwnflog_disk_ring_bytes",
            "What the files take now, those that are prepared included.",
            scrape.disk_ring_bytes,
        )?;
        self.gauge(
            "lwnflog_disk_free_bytes",
            "What the files' file system has left.",
            scrape.disk_free_bytes,
        )
    }
}

/// The text.
///
/// # Errors
/// What the encoder says, in words; it has no reason to.
pub fn render(scrape: &Scrape) -> Result<String, String> {
    let families = Families {
        registry: Registry::new(),
        scrape,
    };
    let said = |error: prometheus::Error| error.to_string();
    families.all().map_err(said)?;
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&families.registry.gather(), &mut text)
        .map_err(said)?;
    String::from_utf8(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::snapshot::Snapshot;

    #[test]
    fn what_is_unknown_has_no_sample() {
        let mut figures = Figures {
            written: 7,
            ..Figures::default()
        };
        let text = |figures: &Figures| {
            render(&Scrape {
                snapshot: Snapshot {
                    elapsed: Duration::from_secs(2),
                    sources: vec![figures.clone()],
                    total: figures.clone(),
                },
                sources: vec!["g5".to_owned()],
                before_hook: 1,
                granted_buffer_bytes: 2,
                paused: false,
                disk_limit_bytes: None,
                disk_ring_bytes: None,
                disk_free_bytes: None,
            })
            .unwrap()
        };
        let unknown = text(&figures);
        assert!(unknown.contains("lwnflog_written_packets_total{source=\"g5\"} 7\n"));
        assert!(unknown.contains("lwnflog_detected_known{source=\"g5\"} 0\n"));
        assert!(!unknown.contains("lwnflog_detected_packets_total{"));
        assert!(!unknown.contains("place=\"allocation\""));
        figures.detected = Some(0);
        figures.dropped.allocation = Some(0);
        let known = text(&figures);
        assert!(
            known.contains("lwnflog_detected_packets_total{source=\"g5\"} 0\n"),
            "{known}"
        );
        assert!(
            known.contains("{place=\"allocation\",source=\"g5\"} 0\n"),
            "{known}"
        );
    }
}

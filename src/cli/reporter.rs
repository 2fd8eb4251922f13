//! What a capture prints while it runs and at its end: text on standard error, JSON on standard
//! output.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Instant;

use super::output::LineWriter;
use super::report::ReportText;
use super::taken::taken;
use super::{complain, on_terminal};
use crate::account::report::{Report, Stats};
use crate::account::snapshot::Figures;
use crate::doctor;
use crate::numbers::grouped;
use crate::ring::Notice;
use crate::session::settings::{Settings, SourceSettings};
use crate::session::{Session, disk_bound_bytes};
use crate::source::links;

/// Prints what goes on: text on standard error, and with `--json` objects on standard output.
pub(super) struct Reporter {
    text: LineWriter,
    /// With `--json`.
    objects: Option<LineWriter>,
    quiet: bool,
    json: bool,
    status_line: bool,
    /// There is a status line on the terminal that the next line has to replace.
    line_open: bool,
    last: (Instant, u64),
    /// The groups that no rule logs to, as it was said last.
    without_rule: Vec<u16>,
    /// What keeps interfaces that are named from having packets, as it was said last.
    hinted: BTreeMap<String, String>,
    /// What the capture cannot see, or has twice: said at the start, and in the report.
    blind: Vec<String>,
}

impl Reporter {
    pub(super) fn new(quiet: bool, json: bool) -> io::Result<Reporter> {
        let status_line = !quiet && io::stderr().is_terminal();
        // The reader has gone; the capture has not.
        let closed = |error: &io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe => complain("standard output is closed: no more JSON"),
            _ => complain(&format!("standard output: {error}: no more JSON")),
        };
        Ok(Reporter {
            text: LineWriter::new(io::stderr(), |_| {})?,
            objects: json
                .then(|| LineWriter::new(io::stdout(), closed))
                .transpose()?,
            quiet,
            json,
            status_line,
            line_open: false,
            last: (Instant::now(), 0),
            without_rule: Vec::new(),
            hinted: BTreeMap::new(),
            // While this process still has the rights that looking takes.
            blind: doctor::past_the_hook(),
        })
    }

    pub(super) fn say(&mut self, text: &str) {
        let clear = self.clear();
        self.text
            .say(format!("{clear}lwnflog: {}\n", on_terminal(text)).into_bytes());
    }

    fn clear(&mut self) -> &'static str {
        if std::mem::take(&mut self.line_open) {
            "\r\x1b[K"
        } else {
            ""
        }
    }

    pub(super) fn greet(&mut self, session: &Session) {
        let settings = session.settings();
        let granted = session.granted_buffer_bytes();
        if session.has_smaller_buffer() {
            self.say(&smaller_buffer(settings, granted));
        }
        for interface in session.interfaces() {
            match at_interface(&interface) {
                Some(Hint::Named(hint) | Hint::Now(hint)) => self.say(&hint),
                Some(Hint::Always(hint)) => self.blind.push(hint),
                None => {}
            }
        }
        self.hinted = hints(session);
        if let Some(group) = session.trigger_without_rule() {
            self.say(&format!(
                "--keep-on {group}: no nftables rule of this network namespace logs to group {group}, and until one \
                 does nothing is kept by itself: load one with `lwnflog rules --group {group} --match EXPRESSION | \
                 nft -f -`"
            ));
        }
        if let Some(why) = session.cannot_keep() {
            self.say(&format!("--keep-on: nothing can be kept as it is: {why}"));
        }
        self.blind.extend(doctor::of_rules(session));
        for line in self.blind.clone() {
            self.say(&line);
        }
        if self.quiet {
            return;
        }
        let source = match &settings.source {
            SourceSettings::Numbers(target, numbers) => {
                let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
                format!("{target} {}", numbers.join(","))
            }
            SourceSettings::Hook(options) => format!(
                "hook {} (priority {}, rings of {} bytes)",
                options.hook,
                session.priority().unwrap_or_default(),
                grouped(granted as u64)
            ),
        };
        let place = match &settings.output {
            None if settings.stream.is_some() => "standard output".to_owned(),
            None => "nowhere: packets are counted and thrown away".to_owned(),
            Some(output) => format!(
                "{}, {}",
                output.dir.display(),
                match disk_bound_bytes(settings) {
                    Some(bound) => format!("at most {} bytes", grouped(bound)),
                    None => "WITHOUT LIMIT".to_owned(),
                }
            ),
        };
        self.say(&format!(
            "capturing {source} to {place}: {}",
            taken(session)
        ));
        for rule in session.rules() {
            self.say(&format!("packets come from the rule {rule}"));
            if rule.snaplen.is_some() || rule.queue_threshold.is_some() {
                self.say(&format!("{rule} sets a snaplen or queue-threshold of its own, which lowers ours: better leave it out"));
            }
        }
    }

    /// Says what keeps interfaces that are named from having packets since the last look, or does no more;
    /// it is noted in the files, too.
    pub(super) fn interfaces(&mut self, session: &Session) {
        let now = hints(session);
        let before = std::mem::replace(&mut self.hinted, now.clone());
        let new = now
            .iter()
            .filter(|(name, hint)| before.get(*name) != Some(hint));
        let mut lines: Vec<_> = new.map(|(_, hint)| hint.clone()).collect();
        let named = session.interfaces();
        let gone = named
            .iter()
            .filter(|name| before.contains_key(*name) && !now.contains_key(*name));
        lines.extend(gone.map(|name| format!("packets of `{name}` are captured again")));
        for line in lines {
            self.say(&line);
            session.note_only(&line);
        }
    }

    /// What an order has changed of them was said in its answer.
    pub(super) fn interfaces_are_told(&mut self, session: &Session) {
        self.hinted = hints(session);
    }

    /// Says what is not wrong.
    pub(super) fn inform(&mut self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// What goes well is nothing to speak of.
    pub(super) fn notice(&mut self, notice: &Notice) {
        if matches!(notice, Notice::Finished { .. }) {
            return;
        }
        self.say(&notice.to_string());
    }

    /// Says which groups no rule rules, if it is not what was said last.
    pub(super) fn without_rule(&mut self, session: &Session) {
        let SourceSettings::Numbers(target, _) = session.settings().source else {
            return;
        };
        let without_rule = session.without_rule();
        if without_rule == self.without_rule {
            return;
        }
        if !without_rule.is_empty() {
            let list: Vec<_> = without_rule.iter().map(ToString::to_string).collect();
            let list = list.join(",");
            self.say(&format!(
                "no nftables rule of this network namespace hands packets to {target} {list}: load one with \
                 `lwnflog rules --{target} {list} | nft -f -`, or use --install-rule; capture goes on"
            ));
        }
        self.without_rule = without_rule;
    }

    fn rate(&mut self, received: u64) -> f64 {
        let now = Instant::now();
        let (before, count) = std::mem::replace(&mut self.last, (now, received));
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let packets = received.saturating_sub(count) as f64;
        packets / (now - before).as_secs_f64().max(1e-6)
    }

    pub(super) fn figures(&mut self, session: &mut Session) {
        if self.objects.is_none() && !self.status_line {
            return;
        }
        let snapshot = session.snapshot();
        let rate = self.rate(snapshot.total.received);
        if let Some(objects) = &self.objects {
            let stats = json_line(&Stats {
                event: "stats",
                elapsed_secs: snapshot.elapsed.as_secs_f64(),
                packets_per_sec: rate,
                total: &snapshot.total,
            });
            if let Ok(line) = stats {
                objects.say(line);
            }
        }
        if self.status_line {
            self.line_open = true;
            let line = status(&snapshot.total, rate, session.settings(), columns());
            self.text.say(format!("\r\x1b[K{line}").into_bytes());
        }
    }

    pub(super) fn figures_now(&mut self, session: &mut Session) {
        let total = session.snapshot().total;
        let rate = self.rate(total.received);
        self.say(&status(&total, rate, session.settings(), usize::MAX));
    }

    /// Gives the report, as text too, but with `--json --quiet`.
    ///
    /// # Errors
    /// Where standard output could not take the JSON report.
    pub(super) fn report(&mut self, report: &Report) -> io::Result<()> {
        let mut report = report.clone();
        report.remarks.append(&mut self.blind);
        let report = &report;
        let told = match self.objects.take() {
            Some(objects) => json_line(report).and_then(|line| {
                objects.insist(line);
                objects.close()
            }),
            None => Ok(()),
        };
        if !(self.quiet && self.json && told.is_ok()) {
            let open = if self.line_open { "\n" } else { "" };
            let text = ReportText(report).to_string();
            self.text
                .insist(format!("{open}{}", on_terminal(&text)).into_bytes());
        }
        told
    }
}

/// What is to be known of an interface whose packets are to be captured.
pub(super) enum Hint {
    /// It has another name.
    Named(String),
    /// None of its packets are seen now.
    Now(String),
    /// None of its packets are seen.
    Always(String),
}

impl Hint {
    /// The same, whichever it is.
    pub(super) fn text(&self) -> &str {
        let (Hint::Named(text) | Hint::Now(text) | Hint::Always(text)) = self;
        text
    }

    fn is_without_packets(&self) -> bool {
        !matches!(self, Hint::Named(_))
    }
}

/// What keeps selected interfaces from having packets, by their names.
fn hints(session: &Session) -> BTreeMap<String, String> {
    let names = session.interfaces().into_iter();
    let hints = names.filter_map(|name| {
        let hint = at_interface(&name).filter(Hint::is_without_packets)?;
        Some((name, hint.text().to_owned()))
    });
    hints.collect()
}

/// What keeps a selection of one interface from having packets; nothing of a pattern.
pub(super) fn at_interface(iface: &str) -> Option<Hint> {
    if iface.ends_with('*') {
        return None;
    }
    match links::by_name(iface) {
        Ok(None) => Some(Hint::Now(format!(
            "there is no interface `{iface}` in this network namespace: its packets are captured once there is"
        ))),
        Ok(Some(link)) if link.takes_over().is_some() => {
            let (index, kind) = link.takes_over().unwrap_or_default();
            let (name, master) = (&link.name, links::name_of(index));
            let master = master.unwrap_or_else(|| format!("ifindex-{index}"));
            Some(Hint::Always(format!(
                "`{name}` is a port of the {kind} `{master}`: at prerouting its packets come by the {kind}, and a \
                 selection of the port sees none; take --iface {master}"
            )))
        }
        Ok(Some(link)) if !link.is_up => Some(Hint::Now(format!(
            "`{iface}` is down: no packet comes by it until it is up (`ip link set {iface} up`)"
        ))),
        Ok(Some(link)) if link.name != iface => Some(Hint::Named(format!(
            "`{iface}` is another name of `{}`",
            link.name
        ))),
        Ok(Some(_)) => None,
        Err(error) => Some(Hint::Now(format!(
            "whether there is an interface `{iface}` is not known: {error}"
        ))),
    }
}

/// Why buffers are smaller than was asked for.
pub(super) fn smaller_buffer(settings: &Settings, granted: usize) -> String {
    let (granted, asked) = (
        grouped(granted as u64),
        grouped(settings.buffer_bytes as u64),
    );
    match settings.source {
        SourceSettings::Hook(_) => format!(
            "the hook's rings have {granted} bytes of the {asked} asked for: 256 MiB a processor at the most"
        ),
        SourceSettings::Numbers(..) => format!(
            "the kernel granted a receive buffer of {granted} bytes of the {asked} asked for: it grants 2 GiB at the \
             most, and net.core.rmem_max without CAP_NET_ADMIN in the host's user namespace"
        ),
    }
}

fn json_line(object: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(object)?;
    line.push(b'\n');
    Ok(line)
}

/// Columns of the terminal that a line may take: one less than it has, or the cursor goes on to the
/// next.
fn columns() -> usize {
    const COLUMNS: u16 = 80;
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(COLUMNS, |size| size.ws_col);
    usize::from(if columns == 0 { COLUMNS } else { columns }) - 1
}

/// `12,000 packets/s, 36,000 written, 0 dropped, 0 skipped, file 3 of 8, 4,123,456 bytes`; as much
/// of it as the columns take.
fn status(figures: &Figures, rate: f64, settings: &Settings, columns: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is not negative"
    )]
    let rate = rate.round() as u64;
    let (kept, what) = match settings.output {
        Some(_) => (figures.written, "written"),
        None if settings.stream.is_some() => (figures.written, "written"),
        None => (figures.discarded, "counted"),
    };
    let dropped = figures.dropped.total();
    let mut parts = vec![
        format!("{} packets/s", grouped(rate)),
        format!("{} {what}", grouped(kept)),
        format!("{} dropped", grouped(dropped)),
        format!("{} skipped", grouped(figures.skipped)),
    ];
    if let Some(output) = &settings.output {
        let rings = settings.names().len();
        parts.push(ring_place(
            figures.files_begun,
            output.limits.files as u64,
            rings,
        ));
        parts.push(format!("{} bytes", grouped(figures.bytes)));
    }
    while parts.len() >= 3 {
        let line = parts.join(", ");
        if line.len() <= columns {
            return line;
        }
        parts.pop();
    }
    let mut line = format!(
        "{}/s, {} {what}, {} dropped",
        short(rate),
        short(kept),
        short(dropped)
    );
    line.truncate(columns);
    line
}

/// A number in four digits at the most, cut, and what they are multiples of: `812k`, `1.0T`.
fn short(number: u64) -> String {
    let mut unit = 1;
    for name in ["", "k", "M", "G", "T", "P", "E"] {
        if number / unit < 1000 {
            let tenths = number / (unit / 10).max(1) % 10;
            return match (unit, number / unit) {
                (1, whole) => whole.to_string(),
                (_, whole @ ..10) => format!("{whole}.{tenths}{name}"),
                (_, whole) => format!("{whole}{name}"),
            };
        }
        unit = unit.saturating_mul(1000);
    }
    number.to_string()
}

/// Where in its ring a capture is that has begun so many files; of several rings, the sum.
fn ring_place(begun: u64, files: u64, rings: usize) -> String {
    if rings != 1 {
        return format!("{} files in {rings} rings", grouped(begun));
    }
    match begun.checked_sub(1).zip((files != 0).then_some(files)) {
        Some((before, files)) => {
            let (turns, place) = (before / files, before % files + 1);
            let turn = match turns {
                0 => String::new(),
                turns => format!(", turn {}", grouped(turns + 1)),
            };
            format!("file {place} of {files}{turn}")
        }
        None => format!("file {}", grouped(begun)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_smaller_buffer_is_explained_by_its_own_limit() {
        for (source, limit) in [
            ("-g5", "net.core.rmem_max"),
            ("--hook", "256 MiB a processor"),
        ] {
            let line = ["lwnflog", source, "--buffer-size", "100GiB"];
            let cli = crate::cli::args::Cli::try_parse_from(line).unwrap();
            let settings = crate::cli::options::settings(&cli.capture).unwrap();
            let said = smaller_buffer(&settings, 512 << 20);
            assert!(said.contains(limit), "{said}");
        }
    }

    #[test]
    fn the_status_line_fits_any_terminal() {
        let cli = crate::cli::args::Cli::try_parse_from(["lwnflog", "-g", "5"]).unwrap();
        let settings = crate::cli::options::settings(&cli.capture).unwrap();
        let many = 1_000_000_000_000;
        let mut figures = Figures {
            written: many,
            skipped: many,
            bytes: many,
            files_begun: many,
            ..Figures::default()
        };
        figures.dropped.overrun = many;
        for (columns, wanted) in [
            (39, "1.0M/s, 1.0T written, 1.0T dropped"),
            (
                79,
                "1,000,000 packets/s, 1,000,000,000,000 written, 1,000,000,000,000 dropped",
            ),
            (10, "1.0M/s, 1."),
        ] {
            assert_eq!(status(&figures, 1e6, &settings, columns), wanted);
        }
        let all = status(&figures, 1e6, &settings, usize::MAX);
        assert!(all.ends_with("1,000,000,000,000 bytes"), "{all}");
        assert_eq!(
            ["0", "999", "812k", "1.9k", "10M", "18E"],
            [0, 999, 812_345, 1_999, 10_999_999, u64::MAX].map(short)
        );
    }

    #[test]
    fn a_place_in_the_ring() {
        assert_eq!(ring_place(1, 8, 1), "file 1 of 8");
        assert_eq!(ring_place(8, 8, 1), "file 8 of 8");
        assert_eq!(ring_place(261, 4, 1), "file 1 of 4, turn 66");
        assert_eq!(ring_place(1_000, 0, 1), "file 1,000");
        assert_eq!(
            ring_place(0, 8, 1),
            "file 0",
            "the disk was full from the start"
        );
        assert_eq!(ring_place(12, 8, 4), "12 files in 4 rings");
    }
}

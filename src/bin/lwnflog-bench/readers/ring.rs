//! lwnflog's own capture loop and ring writer at another hook: one program, and the hook alone
//! differs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lwnflog::account::Account;
use lwnflog::capture::{Capture, Control, Discard, FileSink, Outcome, Sink};
use lwnflog::format::pcapng::PcapNg;
use lwnflog::format::{Format, Interfaces, LinkType};
use lwnflog::ring::{Access, Limits, Ring, RingConfig, Store, segment_bytes_for};
use lwnflog::session::settings::parse_size;
use lwnflog::source::Source;
use lwnflog::source::links;
use serde_json::json;

use super::packet::Packets;
use super::xdp::Xdp;
use crate::say::{say, tell};

/// Where the packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// AF_PACKET, TPACKET_V3
    Packet,
    /// AF_XDP, in the driver where it can
    Xdp,
}

/// What `lwnflog` takes, where it makes sense here.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long, value_enum)]
    pub(crate) hook: From,
    #[arg(long)]
    pub(crate) interface: String,
    #[arg(long)]
    pub(crate) snaplen: u32,
    /// Count packets and throw them away
    #[arg(long)]
    pub(crate) discard: bool,
    #[arg(long, default_value = "200MB")]
    pub(crate) file_size: String,
    #[arg(long, default_value_t = 4)]
    pub(crate) files: usize,
    #[arg(long, short, value_name = "DIR", required_unless_present = "discard")]
    pub(crate) write: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    // The ring comes first, so that no packet waits for a disk.
    let sink = sink(options)?;
    let on = &options.interface;
    let outcome = match options.hook {
        From::Packet => capture(
            Packets::open(on, options.snaplen)
                .with_context(|| format!("cannot open a packet socket on {on}"))?,
            sink,
            &stop,
        )?,
        From::Xdp => {
            let source = Xdp::open(on).with_context(|| format!("cannot attach to {on} by XDP"))?;
            tell!("listening on {on}: {:?}", source.mode());
            capture(source, sink, &stop)?
        }
    };
    let Outcome {
        tally,
        dropped_datagrams,
        error,
        ..
    } = outcome;
    say!(
        "{}",
        json!({
            "event": "report",
            "received": tally.received,
            "written": tally.written,
            "discarded": tally.discarded,
            "skipped": tally.skipped(),
            "dropped": { "overrun": dropped_datagrams, "writer": tally.writer },
            "unstamped": tally.unstamped,
            "stalls": tally.stalls,
            "bytes": tally.bytes,
        })
    );
    error.map_or(Ok(()), |error| Err(error).context("the capture ended"))
}

/// As a session of lwnflog makes it; none with `--discard`.
fn sink(options: &Options) -> Result<Option<FileSink<PcapNg>>> {
    const NAME: &str = "ring";
    let Some(dir) = options.write.as_ref().filter(|_| !options.discard) else {
        return Ok(None);
    };
    let (link, snaplen) = (LinkType::Ethernet, options.snaplen);
    let segment_bytes = segment_bytes_for(PcapNg::record_bytes_max(snaplen as usize));
    let config = RingConfig {
        dir: dir.clone(),
        name: NAME.to_owned(),
        extension: PcapNg::EXTENSION,
        file_bytes: parse_size(&options.file_size, 1)?,
        limits: Limits::files(options.files),
        segment_bytes,
        padding_blocks: true,
    };
    let (notices, heard) = mpsc::channel();
    let store = Store::open(dir, NAME, PcapNg::EXTENSION, Access::default())?;
    let ring = Ring::open(config, store, notices)?;
    thread::spawn(move || heard.into_iter().for_each(|notice| tell!("{notice:?}")));
    let source = format!("{:?} of {}", options.hook, options.interface);
    let interfaces = Interfaces::new(links::name_of);
    let format = PcapNg::new(link, snaplen, source, segment_bytes, interfaces);
    Ok(Some(FileSink::new(format, ring, link, snaplen)))
}

/// Captures on a thread of its own, as lwnflog does, until it is asked to stop.
fn capture<S: Source + Send + 'static>(
    source: S,
    sink: Option<FileSink<PcapNg>>,
    stop: &AtomicBool,
) -> Result<Outcome> {
    match sink {
        Some(sink) => capture_into(source, sink, stop),
        None => capture_into(source, Discard, stop),
    }
}

fn capture_into<S: Source + Send + 'static, K: Sink + Send + 'static>(
    source: S,
    sink: K,
    stop: &AtomicBool,
) -> Result<Outcome> {
    const LOOK: Duration = Duration::from_millis(20);
    let control = Arc::new(Control::new(None));
    let capture = Capture::new(
        source,
        sink,
        Arc::clone(&control),
        Arc::new(Account::default()),
    );
    let thread = thread::Builder::new()
        .name("capture-ring".to_owned())
        .spawn(move || capture.run())
        .context("cannot start the capturing thread")?;
    while !stop.load(Ordering::Relaxed) && !thread.is_finished() {
        thread::sleep(LOOK);
    }
    control.stop();
    let Ok(outcome) = thread.join() else {
        bail!("the capturing thread panicked");
    };
    Ok(outcome)
}

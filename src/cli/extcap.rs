//! `lwnflog extcap`: groups, queues and the hook as interfaces of Wireshark.
//!
//! Wireshark asks by options, one call a question (its Developer's Guide, 8.2, "Extcap"): which
//! interfaces there are, which link types and options one has, and then to capture into a pipe. While
//! that goes on, its toolbar speaks through a second pipe: what comes there becomes a command to the
//! capture's own control socket.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser as _};

use super::args::Cli;
use super::{complain, wireshark};
use crate::control::{Request, VERSION, client, place};
use crate::read::line::printable;

/// Options of `lwnflog extcap`, as Wireshark gives them.
#[derive(Debug, Args)]
#[command(
    after_help = "`lwnflog extcap --install` once; then Wireshark and tshark list lwnflog's interfaces:\n  tshark -D\n  tshark -i lwnflog-group -o extcap.lwnflog_group.number:5\nThe toolbar (View, Interface Toolbars) changes the snap length and pauses."
)]
#[allow(missing_docs, reason = "the help texts are the documentation")]
pub struct ExtcapArgs {
    /// Have Wireshark know this program: writes a script into its folder for such programs
    #[arg(long)]
    pub install: bool,
    /// Take that script away again
    #[arg(long, conflicts_with = "install")]
    pub remove: bool,
    #[arg(long, hide = true)]
    pub extcap_interfaces: bool,
    #[arg(long, hide = true, value_name = "VERSION")]
    pub extcap_version: Option<String>,
    #[arg(long, hide = true, value_name = "INTERFACE")]
    pub extcap_interface: Option<String>,
    #[arg(long, hide = true)]
    pub extcap_dlts: bool,
    #[arg(long, hide = true)]
    pub extcap_config: bool,
    #[arg(long, hide = true)]
    pub capture: bool,
    #[arg(long, hide = true, value_name = "PIPE")]
    pub fifo: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "FILTER")]
    pub extcap_capture_filter: Option<String>,
    #[arg(long, hide = true, value_name = "PIPE")]
    pub extcap_control_in: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "PIPE")]
    pub extcap_control_out: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub number: Option<String>,
    #[arg(long, hide = true)]
    pub at: Option<String>,
    #[arg(long, hide = true)]
    pub snaplen: Option<String>,
    #[arg(long, hide = true)]
    pub family: Option<String>,
    #[arg(long, hide = true)]
    pub iface: Option<String>,
    #[arg(long = "match", hide = true)]
    pub matching: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub install_rule: Option<bool>,
}

/// An interface that Wireshark lists.
struct Interface {
    name: &'static str,
    shown: &'static str,
    source: &'static str,
}

const INTERFACES: [Interface; 3] = [
    Interface {
        name: "lwnflog-group",
        shown: "Netfilter: an NFLOG group",
        source: "--group",
    },
    Interface {
        name: "lwnflog-hook",
        shown: "Netfilter: the hook itself",
        source: "--hook",
    },
    Interface {
        name: "lwnflog-queue",
        shown: "Netfilter: an NFQUEUE queue",
        source: "--queue",
    },
];

/// What the toolbar has, by number.
mod toolbar {
    pub(super) const SNAPLEN: u8 = 0;
    pub(super) const PAUSE: u8 = 1;
}

/// `lwnflog extcap …`
///
/// # Errors
/// A folder or pipe that cannot be written; an interface that is none; what keeps the capture from
/// beginning.
pub fn run(args: &ExtcapArgs) -> Result<()> {
    if args.install {
        return wireshark::install();
    }
    if args.remove {
        return wireshark::remove();
    }
    if args.extcap_interfaces {
        return super::say(interfaces().as_bytes());
    }
    let name = args.extcap_interface.as_deref().unwrap_or_default();
    let Some(interface) = INTERFACES.iter().find(|known| known.name == name) else {
        bail!(
            "extcap is for Wireshark, which calls it: `lwnflog extcap --install` has Wireshark know it (`{}` is no \
             interface of lwnflog's)",
            printable(name)
        );
    };
    if args.extcap_dlts {
        return super::say(b"dlt {number=1}{name=EN10MB}{display=Ethernet}\n");
    }
    if args.extcap_config {
        return super::say(config(interface).as_bytes());
    }
    if !args.capture {
        bail!("extcap: neither --capture nor a question");
    }
    capture(args, interface)
}

fn interfaces() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("extcap {{version={version}}}{{display=lwnflog}}\n");
    for Interface { name, shown, .. } in &INTERFACES {
        text += &format!("interface {{value={name}}}{{display={shown}}}\n");
    }
    text += &format!(
        "control {{number={}}}{{type=string}}{{display=Snap length}}{{tooltip=Bytes of each frame; 0 is all}}\
         {{validation=^[0-9]+$}}\n\
         control {{number={}}}{{type=boolean}}{{display=Pause}}{{tooltip=Copy nothing meanwhile}}{{default=false}}\n",
        toolbar::SNAPLEN,
        toolbar::PAUSE
    );
    text
}

/// The fields of an interface's dialogue.
fn config(interface: &Interface) -> String {
    let mut args = Vec::new();
    match interface.source {
        "--hook" => args.push(
            "{call=--at}{display=Hook}{type=selector}{tooltip=Where packets are captured}".to_owned(),
        ),
        source => args.push(format!(
            "{{call=--number}}{{display=Number}}{{type=integer}}{{range=0,65535}}{{default=5}}{{tooltip=lwnflog {source}}}"
        )),
    }
    args.extend([
        "{call=--snaplen}{display=Snap length}{type=integer}{range=0,262144}{default=0}{tooltip=Bytes of each frame; 0 is all}".to_owned(),
        "{call=--family}{display=Which packets}{type=selector}".to_owned(),
        "{call=--iface}{display=Interface}{type=string}{tooltip=Only packets that come in by it}".to_owned(),
    ]);
    if interface.source != "--hook" {
        args.push("{call=--install-rule}{display=Install a rule}{type=boolean}{default=false}{tooltip=For as long as the capture lasts}".to_owned());
        args.push("{call=--match}{display=Match}{type=string}{tooltip=Of that rule: an nftables expression}".to_owned());
    }
    let mut text = String::new();
    for (number, arg) in args.iter().enumerate() {
        text += &format!("arg {{number={number}}}{arg}\n");
        let values: &[(&str, &str)] = match arg {
            arg if arg.starts_with("{call=--at}") => &[
                ("prerouting", "Prerouting"),
                ("input", "Input"),
                ("forward", "Forward"),
            ],
            arg if arg.starts_with("{call=--family}") => {
                &[("ip", "IPv4"), ("ip6", "IPv6"), ("both", "IPv4 and IPv6")]
            }
            _ => &[],
        };
        for (place, (value, shown)) in values.iter().enumerate() {
            let default = if place == 0 { "true" } else { "false" };
            text += &format!(
                "value {{arg={number}}}{{value={value}}}{{display={shown}}}{{default={default}}}\n"
            );
        }
    }
    text
}

/// The capture as the command line has it.
fn command_line(args: &ExtcapArgs, interface: &Interface, name: &str) -> Vec<String> {
    let mut line = vec!["lwnflog".to_owned()];
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match interface.source {
        "--hook" => {
            let at = given(&args.at).unwrap_or("prerouting".to_owned());
            line.push(format!("--hook={at}"));
        }
        source => {
            let number = given(&args.number).unwrap_or("5".to_owned());
            line.push(format!("{source}={number}"));
        }
    }
    let snaplen = given(&args.snaplen).unwrap_or("0".to_owned());
    line.extend([
        "-w=-".to_owned(),
        "--quiet".to_owned(),
        format!("--snaplen={snaplen}"),
    ]);
    line.push(format!("--name={name}"));
    for (option, value) in [
        ("--family", &args.family),
        ("--iface", &args.iface),
        ("--match", &args.matching),
    ] {
        line.extend(given(value).map(|value| format!("{option}={value}")));
    }
    if args.install_rule == Some(true) {
        line.push("--install-rule".to_owned());
    }
    line
}

fn capture(args: &ExtcapArgs, interface: &Interface) -> Result<()> {
    if let Some(filter) = args
        .extcap_capture_filter
        .as_deref()
        .filter(|filter| !filter.is_empty())
    {
        bail!(
            "capture filter `{}`: lwnflog's rules select packets; use the fields Interface and Match, or a display \
             filter",
            printable(filter)
        );
    }
    let Some(fifo) = &args.fifo else {
        bail!("extcap: --capture needs --fifo");
    };
    let name = format!("extcap-{}", process::id());
    let line = command_line(args, interface, &name);
    let cli = Cli::try_parse_from(&line).map_err(|error| anyhow::anyhow!("{}", error.render()))?;
    // What makes no sense is said at once.
    super::options::settings(&cli.capture)?;
    if let Some(pipe) = args.extcap_control_in.clone() {
        let listen = move || {
            if let Err(error) = obey_toolbar(&pipe, &name) {
                complain(&format!("toolbar: {error}"));
            }
        };
        thread::Builder::new()
            .spawn(listen)
            .context(super::NO_THREAD)?;
    }
    // Wireshark waits for the other end of this one, too.
    let _out = args
        .extcap_control_out
        .as_deref()
        .map(|pipe| open_pipe(pipe).context("the toolbar's pipe"))
        .transpose()?;
    let pipe = open_pipe(fifo)?;
    // What goes to standard output goes to whoever has opened the pipe.
    rustix::stdio::dup2_stdout(&pipe).context("standard output")?;
    drop(pipe);
    match super::capture::run(&cli.capture) {
        // Who reads it ends it so.
        Err(error) if error.downcast_ref().is_some_and(is_broken_pipe) => Ok(()),
        done => done,
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Opens a pipe for writing once somebody reads it. Until then nothing is captured, and a signal that ends a process
/// ends this one, as it does where the pipe or who has started it goes.
fn open_pipe(path: &Path) -> Result<File> {
    const LOOK: Duration = Duration::from_millis(50);
    let said = || printable(&path.display().to_string()).into_owned();
    let begun_by = rustix::process::getppid();
    loop {
        let meta = fs::metadata(path).with_context(said)?;
        anyhow::ensure!(meta.file_type().is_fifo(), "{}: this is no pipe", said());
        let mut open = File::options();
        match open.write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {} // nobody reads it
            Err(error) => return Err(error).with_context(said),
            Ok(pipe) => {
                rustix::io::ioctl_fionbio(&pipe, false).with_context(said)?;
                return Ok(pipe);
            }
        }
        if rustix::process::getppid() != begun_by {
            bail!(
                "{}: nobody has opened it, and who has started this has gone",
                said()
            );
        }
        thread::sleep(LOOK);
    }
}

/// One message of the toolbar: its number, what is done, and a value.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    control: u8,
    command: u8,
    value: Vec<u8>,
}

/// The value of a control was set.
const SET: u8 = 1;

/// Reads a message: `T`, three bytes of length (big-endian), number, command, value. `None` at the
/// end.
fn message(pipe: &mut impl Read) -> io::Result<Option<Message>> {
    let mut head = [0; 6];
    match pipe.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [sync, a, b, c, control, command] = head;
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    if sync != b'T' || len < 2 {
        return Err(io::Error::other("this is no message of Wireshark's"));
    }
    let mut value = vec![0; len - 2];
    pipe.read_exact(&mut value)?;
    Ok(Some(Message {
        control,
        command,
        value,
    }))
}

/// What a message asks of the capture.
fn words(message: &Message) -> Option<Vec<String>> {
    if message.command != SET {
        return None;
    }
    match message.control {
        toolbar::SNAPLEN => {
            let bytes = String::from_utf8(message.value.clone()).ok()?;
            Some(vec!["snaplen".to_owned(), bytes])
        }
        toolbar::PAUSE => {
            let paused = message.value.first().is_some_and(|byte| *byte != 0);
            Some(vec![if paused { "pause" } else { "resume" }.to_owned()])
        }
        _ => None,
    }
}

fn obey_toolbar(pipe: &Path, name: &str) -> io::Result<()> {
    let mut pipe = File::open(pipe)?;
    while let Some(message) = message(&mut pipe)? {
        let Some(mut words) = words(&message) else {
            continue;
        };
        let command = words.remove(0);
        let request = Request {
            v: VERSION,
            command,
            args: words,
            confirm_secs: None,
        };
        let directory = place::directory().ok_or(io::ErrorKind::NotFound)?;
        let answer = client::ask(&place::socket(&directory, name), &request)?;
        if let Some(why) = answer["error"].as_str() {
            complain(&printable(&format!("toolbar: {why}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_toolbar() {
        let mut pipe = &b"T\0\0\x04\x00\x0196T\0\0\x03\x01\x01\x01T\0\0\x02\x00\x00"[..];
        let asked: Vec<_> = std::iter::from_fn(|| message(&mut pipe).unwrap())
            .map(|message| words(&message))
            .collect();
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(asked, [words(&["snaplen", "96"]), words(&["pause"]), None]);
        assert!(message(&mut &b"X\0\0\x02\0\0"[..]).is_err());
        assert!(message(&mut &b"T\0\0\x01\0\0"[..]).is_err());
    }
}

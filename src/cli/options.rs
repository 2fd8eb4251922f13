//! Options as the command line has them become validated settings. No side effects.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{
    CaptureArgs, CaptureSourceArgs, CompressArg, FamilyArg, FormatArg, LinkArg, SpreadArg,
    VerdictArg,
};
use crate::chores::Chores;
use crate::format::LinkType;
use crate::nft::{At, Spread};
use crate::packet::IpFamily;
use crate::ring::{Access, Compression, Limits};
use crate::session::settings::{
    self, ConfigError, FileFormat, HookOptions, KeepOptions, Output, QueueOptions, RuleRequest,
    Settings, SourceSettings, Stream, parse_duration,
};
use crate::source::Target;
use crate::source::hook::HookError;
use crate::source::nfqueue::Verdict;
use crate::sys::group::gid_of;
use crate::sys::standard;

/// The groups or queues asked for.
pub(super) fn source_numbers(
    group: Option<&str>,
    queue: Option<&str>,
) -> Result<(Target, Vec<u16>), ConfigError> {
    if let Some(list) = queue {
        return Ok((Target::Queue, settings::parse_numbers(list, "queues")?));
    }
    let list = group.unwrap_or_default();
    Ok((Target::Group, settings::parse_numbers(list, "groups")?))
}

/// Where the packets of a capture come from.
fn source(args: &CaptureArgs) -> Result<SourceSettings, ConfigError> {
    let CaptureSourceArgs { group, queue, hook } = &args.source;
    let Some(hook) = hook else {
        let hook_only = [
            ("--from-mark", args.from_mark.is_some()),
            ("--sample", args.sample.is_some()),
            ("--cutoff", args.cutoff.is_some()),
            ("--priority", args.priority.is_some()),
            ("--or-group", args.or_group.is_some()),
        ];
        if let Some((option, _)) = hook_only.iter().find(|(_, given)| *given) {
            return Err(ConfigError::HookOnly(option));
        }
        let (target, numbers) = source_numbers(group.as_deref(), queue.as_deref())?;
        return Ok(SourceSettings::Numbers(target, numbers));
    };
    let cutoff = args.cutoff.as_deref();
    Ok(SourceSettings::Hook(HookOptions {
        hook: hook
            .parse()
            .map_err(|error: HookError| ConfigError::Hook(error.to_string()))?,
        priority: args.priority,
        interfaces: args.iface.clone(),
        mark: args
            .from_mark
            .as_deref()
            .map(settings::mark_and_mask)
            .transpose()?,
        sample: args.sample,
        cutoff_bytes: cutoff
            .map(|text| settings::parse_size(text, 1))
            .transpose()?,
        drop: args.drop,
        or_group: args.or_group,
    }))
}

/// What a rule can be told.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the help texts say what each is")]
pub struct RuleArgs<'a> {
    pub ifaces: &'a [String],
    pub matching: Option<&'a str>,
    pub prefix: Option<&'a str>,
    pub at: &'a [String],
    pub trace: bool,
    pub spread: Option<SpreadArg>,
    pub rate_limit: Option<u32>,
    pub drop: bool,
    pub family: FamilyArg,
}

impl RuleArgs<'_> {
    /// The rule asked for.
    pub(super) fn request(&self) -> Result<RuleRequest, ConfigError> {
        let at: Result<Vec<At>, _> = self.at.iter().map(|name| name.parse()).collect();
        Ok(RuleRequest {
            family: family(self.family).into(),
            ifaces: self.ifaces.to_vec(),
            matching: self.matching.map(ToOwned::to_owned),
            prefix: self.prefix.map(ToOwned::to_owned),
            at: if self.trace {
                At::ALL.to_vec()
            } else {
                at.map_err(ConfigError::At)?
            },
            spread: match self.spread {
                Some(SpreadArg::Flow) => Spread::Flow,
                Some(SpreadArg::Cpu) | None => Spread::Cpu,
            },
            rate_limit: self.rate_limit,
            drop: self.drop,
            cgroup: None,
        })
    }
}

/// The rule to install, if one is asked for.
fn rule(args: &CaptureArgs) -> Result<Option<RuleRequest>, ConfigError> {
    let hook = args.source.hook.is_some();
    let rule = RuleArgs {
        ifaces: &args.iface,
        matching: args.matching.as_deref(),
        prefix: args.prefix.as_deref(),
        at: &args.at,
        trace: args.trace,
        spread: args.spread,
        rate_limit: args.rate_limit,
        drop: args.drop,
        family: args.family,
    };
    if args.install_rule {
        if hook {
            return Err(ConfigError::HookWithRule);
        }
        return rule.request().map(Some);
    }
    let rule_only = [
        ("--match", rule.matching.is_some()),
        ("--prefix", rule.prefix.is_some()),
        ("--at", !rule.at.is_empty()),
        ("--trace", rule.trace),
        ("--spread", rule.spread.is_some()),
        ("--rate-limit", rule.rate_limit.is_some()),
    ];
    if let Some((option, _)) = rule_only.iter().find(|(_, given)| *given) {
        return Err(ConfigError::RuleOnly(option));
    }
    match hook {
        false if args.drop => Err(ConfigError::NothingToDecide("--drop")),
        false if !args.iface.is_empty() => Err(ConfigError::NothingToDecide("--iface")),
        _ => Ok(None),
    }
}

/// What is done with finished files, if anything is.
pub(crate) fn chores(args: &CaptureArgs) -> Result<Option<Chores>, ConfigError> {
    let chores = Chores {
        compress: args.compress.map(compression),
        command: args.on_rotate.clone(),
        shell: args.on_rotate_shell,
    };
    let option = match (&chores.compress, &chores.command) {
        (None, None) => return Ok(None),
        (Some(_), _) => "--compress",
        (None, Some(_)) => "--on-rotate",
    };
    if args.discard {
        return Err(ConfigError::NoFiles(option));
    }
    chores.check().map_err(ConfigError::Chores)?;
    Ok(Some(chores))
}

/// The same by its own name.
pub(super) fn family(arg: FamilyArg) -> IpFamily {
    match arg {
        FamilyArg::Ip => IpFamily::Ip,
        FamilyArg::Ip6 => IpFamily::Ip6,
        FamilyArg::Both => IpFamily::Both,
    }
}

/// The same by its own name.
pub fn compression(arg: CompressArg) -> Compression {
    match arg {
        CompressArg::Zstd => Compression::Zstd,
        CompressArg::Lz4 => Compression::Lz4,
    }
}

/// What a ring keeps.
fn limits(args: &CaptureArgs) -> Result<Limits, ConfigError> {
    let bytes = args.max_bytes.as_deref();
    let other_limit = args.max_bytes.is_some() || args.max_age.is_some();
    let by_default = if other_limit {
        0
    } else {
        settings::FILES_DEFAULT
    };
    Ok(Limits {
        files: args.files.unwrap_or(by_default),
        bytes: bytes
            .map(|text| settings::parse_size(text, 1_000_000))
            .transpose()?,
        age: args.max_age.as_deref().map(parse_duration).transpose()?,
        compressed: args.compress.is_some(),
    })
}

/// Where the ring goes that nobody has named a place for: of a service (`StateDirectory=`, of several
/// directories the first) a directory of its name there.
fn place(args: &CaptureArgs) -> PathBuf {
    let given = env::var_os("STATE_DIRECTORY").filter(|given| !given.is_empty());
    match (given, &args.name) {
        (Some(given), Some(name)) => {
            let first = given.as_bytes().split(|byte| *byte == b':').next();
            Path::new(OsStr::from_bytes(first.unwrap_or_default())).join(name)
        }
        _ => PathBuf::from("lwnflog-capture"),
    }
}

/// Whether packets go to standard output.
fn streams(args: &CaptureArgs) -> bool {
    args.write
        .as_ref()
        .is_some_and(|write| write.as_os_str() == "-")
        && !args.discard
}

fn stream(args: &CaptureArgs) -> Result<Option<Stream>, ConfigError> {
    if !streams(args) {
        return Ok(None);
    }
    let not_with = [
        ("--json", args.json),
        ("--compress", args.compress.is_some()),
        ("--on-rotate", args.on_rotate.is_some()),
        ("--keep-on", args.keep_on.is_some()),
    ];
    match not_with.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(ConfigError::Streaming(option)),
        None if standard::output_was_closed() => Err(ConfigError::ClosedOutput),
        None => Ok(Some(Stream {
            format: format(args),
            file: None,
        })),
    }
}

fn format(args: &CaptureArgs) -> FileFormat {
    match args.format {
        FormatArg::Pcapng => FileFormat::PcapNg,
        FormatArg::Pcap => FileFormat::Pcap,
    }
}

/// When files are kept by themselves.
fn keep(args: &CaptureArgs) -> Result<Option<KeepOptions>, ConfigError> {
    let Some(group) = args.keep_on else {
        return Ok(None);
    };
    if args.discard {
        return Err(ConfigError::NoFiles("--keep-on"));
    }
    Ok(Some(KeepOptions {
        group,
        last: parse_duration(&args.last)?,
        next: settings::parse_duration_or_none(&args.next)?,
        every: settings::parse_duration_or_none(&args.keep_every)?,
        bytes_max: settings::parse_size(&args.keep_bytes, 1_000_000)?,
    }))
}

/// A group of users, by number or by name.
pub(super) fn gid(name: &str) -> Result<u32, ConfigError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let unknown = |cause: String| ConfigError::GroupOwner {
        name: name.to_owned(),
        cause,
    };
    match gid_of(name) {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => Err(unknown("there is no such group".to_owned())),
        Err(error) => Err(unknown(error.to_string())),
    }
}

/// The settings of a capture.
pub(crate) fn settings(args: &CaptureArgs) -> Result<Settings, ConfigError> {
    let source = source(args)?;
    let snaplen_max = source.snaplen_max();
    let limits = limits(args)?;
    let output = Output {
        dir: args.write.clone().unwrap_or_else(|| place(args)),
        file_bytes: settings::parse_size(&args.file_size, 1_000_000)?,
        limits,
        format: format(args),
        access: Access {
            gid: args.group_owner.as_deref().map(gid).transpose()?,
        },
        index: !args.no_index,
    };
    let buffer_bytes = settings::parse_size(&args.buffer_size, 1024)?;
    let settings = Settings {
        source,
        family: family(args.family),
        stream: stream(args)?,
        output: if args.discard || streams(args) {
            None
        } else {
            Some(output.check()?)
        },
        link: match args.link_type {
            LinkArg::Ethernet => LinkType::Ethernet,
            LinkArg::Ip if args.family == FamilyArg::Ip => LinkType::Ip,
            LinkArg::Ip => LinkType::RawIp,
            LinkArg::Nflog => LinkType::Nflog,
        },
        snaplen: settings::snaplen(args.snaplen, snaplen_max)?,
        count: args.count,
        duration: args.duration.as_deref().map(parse_duration).transpose()?,
        rotate: args.rotate_secs.map(Duration::from_secs),
        buffer_bytes: usize::try_from(buffer_bytes).unwrap_or(usize::MAX),
        batch: args.batch,
        flush: settings::flush(args.flush_ms)?,
        rule: rule(args)?,
        queue: QueueOptions {
            verdict: match args.verdict {
                VerdictArg::Accept => Verdict::Accept,
                VerdictArg::Drop => Verdict::Drop,
            },
            mark: args.mark.as_deref().map(settings::mark).transpose()?,
            fail_open: !args.fail_closed,
            len: args.queue_len,
        },
        keep: keep(args)?,
    };
    settings.check()
}

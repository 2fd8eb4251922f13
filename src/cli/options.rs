//! Options as the command line has them become validated settings. No side effects.

use std::time::Duration;

use super::args::{CaptureArgs, FormatArg, LinkArg, SourceArgs, VerdictArg};
use crate::format::LinkType;
use crate::ring::Access;
use crate::session::settings::{
    self, ConfigError, FileFormat, Output, QueueOptions, RuleRequest, Settings,
};
use crate::source::Target;
use crate::source::nfqueue::Verdict;
use crate::sys::group::gid_of;

/// The groups or queues asked for.
pub(super) fn source_numbers(source: &SourceArgs) -> Result<(Target, Vec<u16>), ConfigError> {
    if let Some(list) = &source.queue {
        return Ok((Target::Queue, settings::parse_numbers(list, "queues")?));
    }
    let list = source.group.as_deref().unwrap_or_default();
    Ok((Target::Group, settings::parse_numbers(list, "groups")?))
}

/// A group of users, by number or by name.
fn gid(name: &str) -> Result<u32, ConfigError> {
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
    let (target, numbers) = source_numbers(&args.source)?;
    let output = Output {
        dir: args.write.clone(),
        file_bytes: settings::parse_size(&args.file_size, 1_000_000)?,
        files: args.files,
        format: match args.format {
            FormatArg::Pcapng => FileFormat::PcapNg,
            FormatArg::Pcap => FileFormat::Pcap,
        },
        access: Access {
            gid: args.group_owner.as_deref().map(gid).transpose()?,
        },
    };
    let buffer_bytes = settings::parse_size(&args.buffer_size, 1024)?;
    let settings = Settings {
        target,
        numbers,
        output: if args.discard {
            None
        } else {
            Some(output.check()?)
        },
        link: match args.link_type {
            LinkArg::Ethernet => LinkType::Ethernet,
            LinkArg::Ip => LinkType::Ip,
            LinkArg::Nflog => LinkType::Nflog,
        },
        snaplen: settings::snaplen(args.snaplen)?,
        count: args.count,
        duration: args.duration.as_deref().map(parse_duration).transpose()?,
        rotate: args.rotate_secs.map(Duration::from_secs),
        buffer_bytes: usize::try_from(buffer_bytes).unwrap_or(usize::MAX),
        batch: args.batch,
        flush: settings::flush(args.flush_ms)?,
        rule: args.install_rule.then(|| RuleRequest {
            iface: args.iface.clone(),
            drop: args.drop,
        }),
        queue: QueueOptions {
            verdict: match args.verdict {
                VerdictArg::Accept => Verdict::Accept,
                VerdictArg::Drop => Verdict::Drop,
            },
            mark: args.mark.as_deref().map(settings::mark).transpose()?,
            fail_open: !args.fail_closed,
            len: args.queue_len,
        },
    };
    settings.check()
}

fn parse_duration(text: &str) -> Result<Duration, ConfigError> {
    let bad = || ConfigError::Duration {
        text: text.to_owned(),
    };
    let duration = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| bad())?,
        Err(_) => humantime::parse_duration(text).map_err(|_| bad())?,
    };
    if duration.is_zero() {
        Err(bad())
    } else {
        Ok(duration)
    }
}

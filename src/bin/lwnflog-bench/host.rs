//! The machine the figures belong to.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// What figures depend on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    pub(crate) virtual_machine: bool,
    /// Of the directory that captures were written to.
    pub(crate) file_system: String,
    pub(crate) lwnflog_bench: String,
}

impl Host {
    pub(crate) fn here(captures: &Path) -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let values = |key: &'static str| {
            cpu_info.lines().filter_map(move |line| {
                let (name, value) = line.split_once(':')?;
                (name.trim() == key).then(|| value.trim().to_owned())
            })
        };
        let kilobytes = read("/proc/meminfo").lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        let system = read("/etc/os-release").lines().find_map(|line| {
            Some(
                line.strip_prefix("PRETTY_NAME=")?
                    .trim_matches('"')
                    .to_owned(),
            )
        });
        Self {
            processor: values("model name")
                .next()
                .unwrap_or_else(|| "unknown".to_owned()),
            processors: values("processor").count(),
            memory_bytes: kilobytes.unwrap_or(0u64) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: system.unwrap_or_else(|| "unknown".to_owned()),
            virtual_machine: values("flags").any(|flags| flags.contains("hypervisor")),
            file_system: file_system(captures),
            lwnflog_bench: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let kind = if self.virtual_machine {
            " (virtual)"
        } else {
            ""
        };
        format!(
            "{} x {}{kind}, {} GiB, Linux {}, {}, captures on {}",
            self.processors,
            self.processor,
            self.memory_bytes >> 30,
            self.kernel,
            self.system,
            self.file_system
        )
    }
}

/// The type of the file system a path is on: the mount with the longest matching path.
fn file_system(path: &Path) -> String {
    let mounts = read("/proc/self/mounts");
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = fields.filter(|(point, _)| path.starts_with(point));
    let longest = holding.max_by_key(|(point, _)| point.len());
    longest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// The first line that a program prints about its version.
pub(crate) fn version(program: &Path, flag: &str) -> String {
    let output = Command::new(program)
        .arg(flag)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return "unknown".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("unknown")
        .trim()
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

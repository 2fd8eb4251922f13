//! Which process holds a group or queue: for the message that it is taken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who holds a group (`nfnetlink_log`) or queue (`nfnetlink_queue`), by `/proc`: the port id of the
/// group or queue, the socket of the port id, the process of the socket.
pub(super) fn holder(table: &str, number: u16) -> Option<String> {
    let table = std::fs::read_to_string(format!("/proc/thread-self/net/netfilter/{table}")).ok()?;
    let port = port_of(&table, number)?;
    Some(
        process_of_port(port)
            .unwrap_or_else(|| format!("another process (netlink port id {port})")),
    )
}

/// Who holds a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// In words: `process 4711 (ulogd)`.
    pub who: String,
    /// Its process, where it can be seen.
    pub pid: Option<u32>,
    /// When that began.
    pub since: Option<String>,
}

/// Who holds an NFLOG group of this network namespace.
pub fn group_holder(group: u16) -> Option<Holder> {
    let who = holder("nfnetlink_log", group)?;
    let pid = who
        .strip_prefix("process ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    let begun = pid.and_then(started);
    Some(Holder {
        who,
        pid,
        since: begun.map(|begun| humantime::format_rfc3339_seconds(begun).to_string()),
    })
}

/// When a process began: boot time and the 22nd column of its `stat` (proc(5)), in clock ticks.
fn started(pid: u32) -> Option<SystemTime> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything, the third column begins.
    let (_, columns) = stat.rsplit_once(") ")?;
    let ticks: u64 = columns.split(' ').nth(22 - 3)?.parse().ok()?;
    let kernel = std::fs::read_to_string("/proc/stat").ok()?;
    let booted = kernel
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let booted = Duration::from_secs(booted.trim().parse().ok()?);
    let since_boot = Duration::from_secs(ticks / rustix::param::clock_ticks_per_second());
    Some(UNIX_EPOCH + booted + since_boot)
}

/// The second column of the line whose first one is the group or queue.
fn port_of(table: &str, number: u16) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        (columns.next()?.parse() == Ok(number)).then(|| columns.next()?.parse().ok())?
    })
}

/// Finds the process by the socket's inode (`/proc/net/netlink`: column 3 the port id, the last one
/// the inode), among those whose descriptors the caller may look at.
fn process_of_port(port: u32) -> Option<String> {
    const NETLINK_NETFILTER: &str = "12";
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink").ok()?;
    let inode = table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let found =
            columns.get(1) == Some(&NETLINK_NETFILTER) && columns.get(2)?.parse() == Ok(port);
        found.then(|| columns.last().map(ToString::to_string))?
    })?;
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = std::fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors
            .any(|fd| {
                std::fs::read_link(fd.path())
                    .is_ok_and(|target| target.as_os_str() == wanted.as_str())
            })
            .then(|| {
                let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                format!("process {pid} ({})", name.trim())
            })
    })
}

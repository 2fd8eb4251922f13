//! Which process holds a group or queue: for the message that it is taken.

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

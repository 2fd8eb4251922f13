//! Whether a tool receives packets yet, as the kernel sees it.

use std::fs;

use anyhow::{Context, Result};
use lwnflog::lab::Lab;

use crate::child::Tool;
use crate::tools::Ready;

pub(crate) fn is_ready(lab: &Lab, ready: Ready, tool: &Tool) -> Result<bool> {
    Ok(match ready {
        Ready::Now => true,
        // Either file has one line for each group or queue that is bound.
        Ready::Groups(count) => proc_net(lab, "netfilter/nfnetlink_log")?.lines().count() >= count,
        Ready::Queues(count) => {
            proc_net(lab, "netfilter/nfnetlink_queue")?.lines().count() >= count
        }
        Ready::PacketSocket => receives(&proc_net(lab, "packet")?),
        Ready::Says(words) => tool.said().all().contains(words),
    })
}

/// A file below `/proc/net` as the receiving namespace has it.
fn proc_net(lab: &Lab, name: &str) -> Result<String> {
    let path = format!("/proc/thread-self/net/{name}");
    lab.receiver()
        .run(|| fs::read_to_string(&path))?
        .with_context(|| format!("cannot read {path}: is Netfilter's part of the kernel there?"))
}

/// Whether a packet socket for all protocols is bound and running: the columns are
/// `sk RefCnt Type Proto Iface R Rmem User Inode`.
fn receives(packet_sockets: &str) -> bool {
    packet_sockets.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [_, _, _, "0003", interface, "1", ..] if interface != "0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_bound_socket_receives() {
        let table =
            |line: &str| format!("sk RefCnt Type Proto  Iface R Rmem   User   Inode\n{line}\n");
        assert!(receives(&table(
            "000 3 3    0003   2     1 0      0      4711"
        )));
        assert!(
            !receives(&table("000 3 3    0003   2     0 0      0      4711")),
            "not running"
        );
        assert!(
            !receives(&table("000 3 3    0003   0     1 0      0      4711")),
            "not bound"
        );
        assert!(
            !receives(&table("000 3 3    0000   2     1 0      0      4711")),
            "no protocol"
        );
        assert!(!receives(&table("")));
    }
}

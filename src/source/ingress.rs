//! What has an interface's packets before the IP hooks and may take them elsewhere: filters of traffic
//! control at its ingress, and programs there (tcx) or in its driver (XDP).

use std::io;
use std::time::Duration;

use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;

use super::links::Link;
use crate::netlink::message::{DONE, ERROR, HEADER_BYTES};
use crate::netlink::{Attributes, Message, Messages};
use crate::sys::hook;
use crate::sys::netlink as socket;

// linux/rtnetlink.h, linux/netlink.h, linux/pkt_sched.h
const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
const NLM_F_DUMP_REQUEST: u16 = 0x301;
/// Bytes of `struct tcmsg`: the interface at 4, the parent at 12.
const TCMSG_BYTES: usize = 20;
const TCA_KIND: u16 = 1;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`, of the older `ingress` as well.
const INGRESS: u32 = 0xffff_fff2;
const BUFFER_BYTES: usize = 64 << 10;

/// What stands before the hooks of each of these interfaces, in words: `a program of XDP`. Where that
/// cannot be known, nothing does.
pub fn before_hooks(links: &[Link]) -> Vec<(&Link, String)> {
    let with_filters: Vec<u32> = dump(RTM_GETQDISC, 0, 0)
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, kind)| ["ingress", "clsact"].contains(&kind.as_str()))
        .map(|(index, _)| index)
        .collect();
    let mut found = Vec::new();
    for link in links {
        if link.has_xdp {
            found.push((link, "a program of XDP".to_owned()));
        }
        if hook::has_ingress_programs(link.index) {
            found.push((link, "a program of traffic control (tcx)".to_owned()));
        }
        if with_filters.contains(&link.index) {
            let filters = dump(RTM_GETTFILTER, link.index, INGRESS).unwrap_or_default();
            let mut kinds: Vec<_> = filters.into_iter().map(|(_, kind)| kind).collect();
            kinds.sort();
            kinds.dedup();
            if !kinds.is_empty() {
                found.push((link, format!("filters of tc ({})", kinds.join(", "))));
            }
        }
    }
    found
}

/// The interfaces and kinds of what is listed.
fn dump(kind: u16, index: u32, parent: u32) -> io::Result<Vec<(u32, String)>> {
    let socket = NlSocket::connect(NlFamily::Route, None, Groups::empty())?;
    socket::set_receive_timeout(socket::borrow(&socket), Duration::from_secs(1))?;
    let length = u32::try_from(HEADER_BYTES + TCMSG_BYTES).map_err(io::Error::other)?;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(NLM_F_DUMP_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence and port
    request.extend([0; 4]);
    request.extend(index.to_ne_bytes());
    request.extend([0; 4]); // handle
    request.extend(parent.to_ne_bytes());
    request.extend([0; 4]);
    socket.send(request, Msg::empty())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut found = Vec::new();
    loop {
        let received = socket::receive(socket::borrow(&socket), &mut buffer, true)?;
        if received.port != 0 {
            continue; // not the kernel's
        }
        for message in Messages::new(&buffer[..received.bytes.min(BUFFER_BYTES)]) {
            let message = message.map_err(io::Error::other)?;
            match message.kind {
                DONE | ERROR => return Ok(found),
                _ => found.extend(read(&message)),
            }
        }
    }
}

fn read(message: &Message<'_>) -> Option<(u32, String)> {
    let (fixed, attributes) = message.body.split_first_chunk::<TCMSG_BYTES>()?;
    let index = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let mut attributes = Attributes::new(attributes).flatten();
    let kind = attributes.find(|attribute| attribute.kind == TCA_KIND)?;
    let kind = kind.value.strip_suffix(&[0]).unwrap_or(kind.value);
    Some((index, String::from_utf8_lossy(kind).into_owned()))
}

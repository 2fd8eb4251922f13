//! The interfaces of the calling thread's network namespace, over rtnetlink: names, alternative
//! names, bridges, drops.
//!
//! `if_indextoname` opens a socket of a family that a sandbox may forbid
//! (`RestrictAddressFamilies=AF_NETLINK`); netlink is there whenever packets are.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io;
use std::time::Duration;

use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;

use crate::netlink::message::{DONE, ERROR, HEADER_BYTES};
use crate::netlink::{Attributes, Message, Messages, align};
use crate::sys::netlink as socket;

// linux/rtnetlink.h, linux/netlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTNLGRP_LINK: u32 = 1;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const AF_UNSPEC: u8 = 0;
/// Bytes of `struct ifinfomsg`: family, type, index at 4, flags, change.
const IFINFOMSG_BYTES: usize = 16;
/// `linux/if.h`
const IFF_UP: u32 = 1;
// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
/// The type of an attribute that has others in it has this bit, too.
const NLA_TYPE_MASK: u16 = 0x3fff;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
/// Places in `struct rtnl_link_stats64`, of 64 bits each.
const RX_DROPPED: usize = 6;
const RX_FIFO_ERRORS: usize = 14;
const RX_MISSED_ERRORS: usize = 15;
/// `IFNAMSIZ` with its NUL: a longer name can only be an alternative one.
const IFNAMSIZ: usize = 16;
/// A dump's datagrams have at most 32 KiB.
const BUFFER_BYTES: usize = 64 << 10;

/// One interface, as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// It is up: packets may come by it.
    pub is_up: bool,
    /// Its alternative names.
    pub others: Vec<String>,
    /// The index of the bridge whose port it is.
    pub bridge: Option<u32>,
    /// The index of what it is a port of, and of which kind that is: `bridge`, `bond`, `team`, `vrf`.
    pub port_of: Option<(u32, String)>,
    /// A program (XDP) has its packets before all else.
    pub has_xdp: bool,
    /// Packets that it, or the backlog behind it, dropped on the way in: what `/proc/net/dev` shows
    /// as drop and fifo.
    pub dropped: u64,
}

impl Link {
    /// What has the packets of this port before the IP hooks, so that they come by that one there; `None`
    /// of what is no port, and of a VRF's, whose packets come by both.
    pub fn takes_over(&self) -> Option<(u32, &str)> {
        let (index, kind) = self.port_of.as_ref()?;
        (kind != "vrf").then_some((*index, kind))
    }

    /// Whether it is called so.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.others.iter().any(|other| other == name)
    }
}

/// The interface of this index, if there is one.
///
/// # Errors
/// What the system says.
pub fn by_index(index: u32) -> io::Result<Option<Link>> {
    ask(index, None)
}

/// The interface that has this name or alternative name, if there is one.
///
/// # Errors
/// What the system says.
pub fn by_name(name: &str) -> io::Result<Option<Link>> {
    if name.len() < IFNAMSIZ
        && let Some(link) = ask(0, Some((IFLA_IFNAME, name)))?
    {
        return Ok(Some(link));
    }
    ask(0, Some((IFLA_ALT_IFNAME, name)))
}

/// The name of an interface; `None` where there is none, or it cannot be had.
pub fn name_of(index: u32) -> Option<String> {
    by_index(index).ok().flatten().map(|link| link.name)
}

/// All interfaces.
///
/// # Errors
/// What the system says.
pub fn all() -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    exchange(NLM_F_REQUEST | NLM_F_DUMP, 0, None, |link| links.push(link))?;
    Ok(links)
}

fn ask(index: u32, name: Option<(u16, &str)>) -> io::Result<Option<Link>> {
    let mut found = None;
    match exchange(NLM_F_REQUEST, index, name, |link| found = Some(link)) {
        Ok(()) => Ok(found),
        // No such interface; EINVAL: a kernel that knows no alternative names (before 5.5).
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODEV | libc::EINVAL) => Ok(None),
            _ => Err(error),
        },
    }
}

fn exchange(
    flags: u16,
    index: u32,
    name: Option<(u16, &str)>,
    mut each: impl FnMut(Link),
) -> io::Result<()> {
    let socket = NlSocket::connect(NlFamily::Route, None, Groups::empty())?;
    socket::set_receive_timeout(socket::borrow(&socket), Duration::from_secs(1))?;
    socket.send(request(flags, index, name)?, Msg::empty())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = socket::receive(socket::borrow(&socket), &mut buffer, true)?;
        if received.port != 0 {
            continue; // not the kernel's
        }
        let datagram = &buffer[..received.bytes.min(BUFFER_BYTES)];
        for message in Messages::new(datagram) {
            let message = message.map_err(io::Error::other)?;
            match message.kind {
                RTM_NEWLINK => each(link(&message).ok_or_else(cut)?),
                DONE => return Ok(()),
                ERROR => {
                    let errno = message.body.first_chunk().ok_or_else(cut)?;
                    return match i32::from_ne_bytes(*errno).wrapping_neg() {
                        0 => Ok(()),
                        errno => Err(io::Error::from_raw_os_error(errno)),
                    };
                }
                _ => {}
            }
            if flags & NLM_F_DUMP == 0 {
                return Ok(());
            }
        }
    }
}

fn cut() -> io::Error {
    io::Error::other("the kernel's description of an interface is cut")
}

fn request(flags: u16, index: u32, name: Option<(u16, &str)>) -> io::Result<Vec<u8>> {
    let mut body = vec![0; IFINFOMSG_BYTES];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some((kind, name)) = name {
        let len = u16::try_from(4 + name.len() + 1).map_err(io::Error::other)?;
        body.extend(len.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(name.as_bytes());
        body.push(0);
        body.resize(align(body.len()), 0);
    }
    let len = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(RTM_GETLINK.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence and port
    message.extend(body);
    Ok(message)
}

/// Reads `RTM_NEWLINK`.
fn link(message: &Message<'_>) -> Option<Link> {
    let (fixed, attributes) = message.body.split_first_chunk::<IFINFOMSG_BYTES>()?;
    let mut link = Link {
        index: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        is_up: u32::from_ne_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]) & IFF_UP != 0,
        ..Link::default()
    };
    let (mut master, mut kind) = (None, None);
    for found in Attributes::new(attributes).flatten() {
        match found.kind & NLA_TYPE_MASK {
            IFLA_IFNAME => link.name = text(found.value),
            IFLA_PROP_LIST => {
                let inner = Attributes::new(found.value).flatten();
                let names = inner.filter(|inner| inner.kind & NLA_TYPE_MASK == IFLA_ALT_IFNAME);
                link.others = names.map(|inner| text(inner.value)).collect();
            }
            IFLA_MASTER => master = found.bytes().ok().map(u32::from_ne_bytes),
            IFLA_LINKINFO => {
                let mut inner = Attributes::new(found.value).flatten();
                let inner = inner.find(|inner| inner.kind == IFLA_INFO_SLAVE_KIND);
                kind = inner.map(|inner| text(inner.value));
            }
            IFLA_XDP => {
                let mut inner = Attributes::new(found.value).flatten();
                let attached = inner.find(|inner| inner.kind == IFLA_XDP_ATTACHED);
                link.has_xdp = attached.is_some_and(|attached| attached.value.first() != Some(&0));
            }
            IFLA_STATS64 => {
                let counter = |place: usize| {
                    let bytes = found.value.get(place * 8..)?.first_chunk()?;
                    Some(u64::from_ne_bytes(*bytes))
                };
                let counters = [RX_DROPPED, RX_FIFO_ERRORS, RX_MISSED_ERRORS];
                link.dropped = counters.into_iter().filter_map(counter).sum();
            }
            _ => {}
        }
    }
    link.port_of = master.zip(kind);
    link.bridge = link
        .port_of
        .as_ref()
        .and_then(|(master, kind)| (kind == "bridge").then_some(*master));
    Some(link)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// What the kernel says of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there, and as described.
    There(Link),
    /// It has gone from this namespace. As it was last.
    Gone(Link),
}

/// Says when interfaces come, go or change, and how.
pub struct Changes {
    socket: NlSocket,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    /// Begins to listen, in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Changes> {
        let groups = Groups::new_groups(&[RTNLGRP_LINK]);
        Ok(Changes {
            socket: NlSocket::connect(NlFamily::Route, None, groups)?,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Waits until something changes, or the other end of `stop` is closed: then false.
    pub fn wait(&self, stop: &impl AsFd) -> bool {
        let mut wanted = [
            PollFd::from_borrowed_fd(socket::borrow(&self.socket), PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        let ready = poll(&mut wanted, None);
        let stopped = !wanted[1].revents().is_empty();
        matches!(ready, Ok(_) | Err(Errno::INTR)) && !stopped
    }

    /// Hands over what has changed since the last call. Does not wait. False if that was so much
    /// that not all of it had room: whoever follows has to look at [`all`] of them.
    pub fn take(&mut self, mut each: impl FnMut(Change)) -> bool {
        let mut whole = true;
        loop {
            match socket::receive(socket::borrow(&self.socket), &mut self.buffer, false) {
                Ok(received) if received.port == 0 => {
                    let bytes = self.buffer.len().min(received.bytes);
                    whole &= received.bytes <= bytes;
                    for message in Messages::new(&self.buffer[..bytes]).flatten() {
                        if let Some(change) = change(&message) {
                            each(change);
                        }
                    }
                }
                Ok(_) => {} // not the kernel's
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => whole = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return whole,
            }
        }
    }
}

/// A bridge says, too, that a port has come to it or left it (its messages are of its own address
/// family): that is no interface that comes or goes.
fn change(message: &Message<'_>) -> Option<Change> {
    if message.body.first() != Some(&AF_UNSPEC) {
        return None;
    }
    match message.kind {
        RTM_NEWLINK => link(message).map(Change::There),
        RTM_DELLINK => link(message).map(Change::Gone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_by_index_and_by_name() {
        let lo = by_name("lo").unwrap().unwrap();
        assert_eq!((lo.index, &*lo.name, lo.bridge), (1, "lo", None));
        assert_eq!(name_of(1).as_deref(), Some("lo"));
        assert!(all().unwrap().iter().any(|link| link.name == "lo"));
        assert_eq!(by_name("no-such-link").unwrap(), None);
        assert_eq!(by_name("no such interface, by any name").unwrap(), None);
        assert_eq!(by_index(1 << 30).unwrap(), None);
    }
}

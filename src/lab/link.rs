//! Links and addresses over rtnetlink, in the network namespace of the calling thread.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Arphrd, Ifa, Ifla, IflaInfo, RtAddrFamily, RtScope, RtaTypeWrapper, Rtm};
use neli::consts::socket::NlFamily;
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::rtnl::{Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, Rtattr, RtattrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::{Buffer, RtBuffer};
use neli::utils::Groups;
use neli::{FromBytesWithInput, Size, ToBytes};

use super::{LabError, Namespace};
use crate::sys::netlink::interface_index;

/// VETH_INFO_PEER of `linux/veth.h`: what the other end of the pair is to be.
const VETH_INFO_PEER: u16 = 1;

/// One end of a veth pair.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The interface's name, at most 15 bytes.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// The length of the address's network prefix.
    pub prefix_len: u8,
}

/// Makes a veth pair, one end in each namespace, with addresses, and sets both ends up.
///
/// A frame may have `mtu` bytes after its Ethernet header.
pub fn add_veth(
    near: (&Namespace, &Endpoint),
    far: (&Namespace, &Endpoint),
    mtu: u32,
) -> Result<(), LabError> {
    let ((near_namespace, near_end), (far_namespace, far_end)) = (near, far);
    near_namespace.run(|| create_pair(near_end, far_namespace, far_end, mtu))??;
    for (namespace, end) in [near, far] {
        namespace.run(|| {
            add_address(end)?;
            set_up(&end.name)
        })??;
    }
    Ok(())
}

fn create_pair(
    near: &Endpoint,
    far_namespace: &Namespace,
    far: &Endpoint,
    mtu: u32,
) -> Result<(), LabError> {
    let action = format!("make the veth pair {} - {}", near.name, far.name);
    let build = || -> Result<Ifinfomsg, String> {
        let mut peer_attributes = link_attributes(far, mtu)?;
        let far_fd = far_namespace.as_fd().as_raw_fd();
        peer_attributes.push(attribute(Ifla::NetNsFd, far_fd)?);
        let mut data = RtBuffer::<RtaTypeWrapper, Buffer>::new();
        let peer_type = RtaTypeWrapper::UnrecognizedConst(VETH_INFO_PEER);
        data.push(attribute(peer_type, link_message(0, peer_attributes)?)?);
        let mut info = RtBuffer::<IflaInfo, Buffer>::new();
        info.push(attribute(IflaInfo::Kind, "veth")?);
        info.push(attribute(IflaInfo::Data, data)?);
        let mut attributes = link_attributes(near, mtu)?;
        attributes.push(attribute(Ifla::Linkinfo, info)?);
        link_message(0, attributes)
    };
    let message = build().map_err(|reason| LabError::Link {
        action: action.clone(),
        reason,
    })?;
    request(action, Rtm::Newlink, NlmF::CREATE | NlmF::EXCL, message)
}

/// Sets an interface up, as `ip link set NAME up` does.
pub(super) fn set_up(name: &str) -> Result<(), LabError> {
    let action = format!("set {name} up");
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_type(Arphrd::from(0))
        .ifi_index(index_of(name)?)
        .up()
        .build()
        .map_err(|error| LabError::Link {
            action: action.clone(),
            reason: error.to_string(),
        })?;
    request(action, Rtm::Newlink, NlmF::empty(), message)
}

fn add_address(end: &Endpoint) -> Result<(), LabError> {
    let action = format!(
        "give {} the address {}/{}",
        end.name, end.address, end.prefix_len
    );
    let index = index_of(&end.name)?;
    let build = || -> Result<Ifaddrmsg, String> {
        let mut attributes = RtBuffer::<Ifa, Buffer>::new();
        attributes.push(attribute(Ifa::Local, end.address.octets())?);
        attributes.push(attribute(Ifa::Address, end.address.octets())?);
        IfaddrmsgBuilder::default()
            .ifa_family(RtAddrFamily::Inet)
            .ifa_prefixlen(end.prefix_len)
            .ifa_scope(RtScope::Universe)
            .ifa_index(index.unsigned_abs())
            .rtattrs(attributes)
            .build()
            .map_err(|error| error.to_string())
    };
    let message = build().map_err(|reason| LabError::Link {
        action: action.clone(),
        reason,
    })?;
    request(action, Rtm::Newaddr, NlmF::CREATE | NlmF::EXCL, message)
}

fn index_of(name: &str) -> Result<i32, LabError> {
    interface_index(name).map_err(|_| LabError::NoInterface(name.to_owned()))
}

fn link_attributes(end: &Endpoint, mtu: u32) -> Result<RtBuffer<Ifla, Buffer>, String> {
    let mut attributes = RtBuffer::new();
    attributes.push(attribute(Ifla::Ifname, end.name.as_str())?);
    attributes.push(attribute(Ifla::Address, end.mac)?);
    attributes.push(attribute(Ifla::Mtu, mtu)?);
    Ok(attributes)
}

fn link_message(index: i32, attributes: RtBuffer<Ifla, Buffer>) -> Result<Ifinfomsg, String> {
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index)
        .rtattrs(attributes)
        .build()
        .map_err(|error| error.to_string())
}

fn attribute<T: Size, P: Size + ToBytes>(kind: T, value: P) -> Result<Rtattr<T, Buffer>, String> {
    RtattrBuilder::default()
        .rta_type(kind)
        .rta_payload(value)
        .build()
        .map_err(|error| error.to_string())
}

/// Sends one request and waits for the kernel's verdict on it.
fn request<P>(action: String, kind: Rtm, flags: NlmF, payload: P) -> Result<(), LabError>
where
    P: Size + ToBytes + FromBytesWithInput<Input = usize> + std::fmt::Debug,
{
    let exchange = || -> Result<(), String> {
        let socket = NlSocketHandle::connect(NlFamily::Route, None, Groups::empty())
            .map_err(|error| error.to_string())?;
        let message: Nlmsghdr<Rtm, P> = NlmsghdrBuilder::default()
            .nl_type(kind)
            .nl_flags(NlmF::REQUEST | NlmF::ACK | flags)
            .nl_payload(NlPayload::Payload(payload))
            .build()
            .map_err(|error| error.to_string())?;
        socket.send(&message).map_err(|error| error.to_string())?;
        let (answers, _) = socket.recv::<Rtm, P>().map_err(|error| error.to_string())?;
        for answer in answers {
            match answer.map_err(|error| error.to_string())?.nl_payload() {
                NlPayload::Ack(_) => return Ok(()),
                NlPayload::Err(refusal) => return Err(refusal.to_string()),
                _ => {}
            }
        }
        Err("the kernel did not answer".to_owned())
    };
    exchange().map_err(|reason| LabError::Link { action, reason })
}

/// What an interface has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Packets received and dropped by the interface.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}

/// What `interface` has counted, in the network namespace of the calling thread.
pub fn interface_stats(interface: &str) -> Result<InterfaceStats, LabError> {
    let path = PathBuf::from("/proc/thread-self/net/dev");
    let text = fs::read_to_string(&path).map_err(|source| LabError::Proc { path, source })?;
    parse_stats(&text, interface).ok_or_else(|| LabError::NoInterface(interface.to_owned()))
}

/// `name: bytes packets errs drop fifo frame compressed multicast` and the same for sending.
fn parse_stats(text: &str, interface: &str) -> Option<InterfaceStats> {
    let columns = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, columns)| (name.trim() == interface).then_some(columns))?;
    let columns: Vec<u64> = columns
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    Some(InterfaceStats {
        rx_bytes: *columns.first()?,
        rx_packets: *columns.get(1)?,
        rx_dropped: *columns.get(3)?,
        tx_packets: *columns.get(9)?,
        tx_dropped: *columns.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_found_by_name() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop|bytes\n    \
                    lo:       1 2 0 0 0 0 0 0 1 2 0 0 0 0 0 0\n  \
                    rx: 640 10 0 3 0 0 0 0 42 7 0 5 0 0 0 0\n";
        let expected = InterfaceStats {
            rx_packets: 10,
            rx_bytes: 640,
            rx_dropped: 3,
            tx_packets: 7,
            tx_dropped: 5,
        };
        assert_eq!(parse_stats(text, "rx"), Some(expected));
        assert_eq!(parse_stats(text, "x"), None);
        assert_eq!(parse_stats("rx: 1 2 3", "rx"), None);
    }
}

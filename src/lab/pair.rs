//! The laboratory itself: two namespaces, one cable.

use std::net::Ipv4Addr;

use super::{Endpoint, InterfaceStats, LabError, Namespace, add_veth, interface_stats};

/// The name of the sending interface.
pub const TX: &str = "tx";
/// The name of the receiving interface.
pub const RX: &str = "rx";

/// The largest MTU a test needs: whole 1500-byte frames leave 14 bytes of it unused.
const MTU: u32 = 1500;

/// Two network namespaces joined by a veth pair: [`TX`] in the sender's, [`RX`] in the receiver's.
///
/// Addresses come from 198.18.0.0/15, which RFC 2544 sets aside for benchmarks.
#[derive(Debug)]
pub struct Lab {
    sender: Namespace,
    receiver: Namespace,
    tx: Endpoint,
    rx: Endpoint,
}

impl Lab {
    /// Makes the namespaces and the pair, both ends up.
    pub fn new() -> Result<Self, LabError> {
        Self::with_mtu(MTU)
    }

    /// As [`Lab::new`], with another MTU.
    pub fn with_mtu(mtu: u32) -> Result<Self, LabError> {
        // Locally administered addresses, the same in every run.
        let end = |name: &str, last: u8| Endpoint {
            name: name.to_owned(),
            mac: [0x02, 0x6c, 0x77, 0x6e, 0x66, last],
            address: Ipv4Addr::new(198, 18, 0, last),
            prefix_len: 15,
        };
        let lab = Self {
            sender: Namespace::new()?,
            receiver: Namespace::new()?,
            tx: end(TX, 1),
            rx: end(RX, 2),
        };
        add_veth((&lab.sender, &lab.tx), (&lab.receiver, &lab.rx), mtu)?;
        Ok(lab)
    }

    /// The namespace traffic comes from.
    pub fn sender(&self) -> &Namespace {
        &self.sender
    }

    /// The namespace traffic arrives in: rules and capture tools belong here.
    pub fn receiver(&self) -> &Namespace {
        &self.receiver
    }

    /// The sending end of the cable.
    pub fn tx(&self) -> &Endpoint {
        &self.tx
    }

    /// The receiving end of the cable.
    pub fn rx(&self) -> &Endpoint {
        &self.rx
    }

    /// What the receiving interface has counted.
    pub fn receiver_stats(&self) -> Result<InterfaceStats, LabError> {
        self.receiver.run(|| interface_stats(RX))?
    }

    /// What the sending interface has counted.
    pub fn sender_stats(&self) -> Result<InterfaceStats, LabError> {
        self.sender.run(|| interface_stats(TX))?
    }
}

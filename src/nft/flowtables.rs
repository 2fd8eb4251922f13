//! Flowtables: packets of connections that one has taken over pass no hook of the IP families.

use std::time::Instant;

use super::constants::{
    NF_FLOWTABLE_HW_OFFLOAD, NFT_MSG_GETFLOWTABLE, NFTA_DEVICE_NAME, NFTA_FLOWTABLE_FLAGS,
    NFTA_FLOWTABLE_HOOK, NFTA_FLOWTABLE_HOOK_DEVS, NFTA_FLOWTABLE_NAME, NFTA_FLOWTABLE_TABLE,
};
use super::error::RuleError;
use super::message::{Lookup, c_string};
use super::socket::NftSocket;
use super::{Family, NfMessage};

/// A flowtable of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flowtable {
    /// As nft would have it addressed: `inet filter ft`.
    pub named: String,
    /// Its interfaces.
    pub devices: Vec<String>,
    /// The devices themselves forward.
    pub in_hardware: bool,
}

/// All of them.
///
/// # Errors
/// What reading them says.
pub fn flowtables(deadline: Instant) -> Result<Vec<Flowtable>, RuleError> {
    let mut socket = NftSocket::open()?;
    let found = socket.dump("list the flowtables", NFT_MSG_GETFLOWTABLE, None, deadline)?;
    Ok(found.iter().filter_map(read).collect())
}

fn read(message: &NfMessage) -> Option<Flowtable> {
    let attrs = &message.attrs;
    let devices = attrs
        .nested(NFTA_FLOWTABLE_HOOK)
        .and_then(|hook| hook.nested(NFTA_FLOWTABLE_HOOK_DEVS));
    let devices = devices.iter().flat_map(|devices| devices.iter());
    let devices = devices
        .filter(|device| *device.nla_type().nla_type() == NFTA_DEVICE_NAME)
        .map(|device| c_string(device.nla_payload().as_ref()));
    let flags = attrs.be32(NFTA_FLOWTABLE_FLAGS).unwrap_or_default();
    Some(Flowtable {
        named: format!(
            "{} {} {}",
            Family(message.family),
            attrs.string(NFTA_FLOWTABLE_TABLE)?,
            attrs.string(NFTA_FLOWTABLE_NAME)?
        ),
        devices: devices.collect(),
        in_hardware: flags & NF_FLOWTABLE_HW_OFFLOAD != 0,
    })
}

#[cfg(test)]
mod tests {
    use neli::consts::nl::NlmF;

    use super::*;
    use crate::nft::constants::NFPROTO_INET;
    use crate::nft::message::{attrs, be32, message, nested, string};

    #[test]
    fn its_devices_and_where_it_forwards() {
        let devices = [
            string(NFTA_DEVICE_NAME, "lan"),
            string(NFTA_DEVICE_NAME, "wan"),
        ];
        let attrs = attrs([
            string(NFTA_FLOWTABLE_TABLE, "fw"),
            string(NFTA_FLOWTABLE_NAME, "ft"),
            nested(
                NFTA_FLOWTABLE_HOOK,
                [nested(NFTA_FLOWTABLE_HOOK_DEVS, devices)],
            ),
            be32(NFTA_FLOWTABLE_FLAGS, 1),
        ]);
        let message = message(0, NlmF::empty(), 1, NFPROTO_INET, 0, attrs.unwrap()).unwrap();
        let read = read(message.get_payload().unwrap()).unwrap();
        assert_eq!(read.named, "inet fw ft");
        assert_eq!(read.devices, ["lan", "wan"]);
        assert!(read.in_hardware);
    }
}

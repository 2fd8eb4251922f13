//! Three namespaces: a sender, a router where the rules and tools belong, and the far end.
//!
//! ```text
//!   sender            router                        far end
//!   198.18.0.1 ==== 198.18.0.2 | 192.0.2.2 ==== 192.0.2.1
//!     tx              rx: rule     out             in
//! ```

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use lwnflog::lab::{Endpoint, Lab, Namespace, add_veth};

const OUT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Of both cables.
const MTU: u32 = 1500;

/// The laboratory's receiver is the router.
pub(super) struct Route {
    pub(super) lab: Lab,
    pub(super) far: Namespace,
}

impl Route {
    pub(super) fn new() -> Result<Self> {
        let lab = Lab::with_mtu(MTU)?;
        let far = Namespace::new()?;
        let end = |name: &str, address: Ipv4Addr| Endpoint {
            name: name.to_owned(),
            mac: [0x02, 0x6c, 0x77, 0x6e, 0x66, address.octets()[3] + 2],
            address,
            prefix_len: 24,
        };
        let (near_end, far_end) = (end("out", OUT), end("in", FAR));
        add_veth((lab.receiver(), &near_end), (&far, &far_end), MTU)?;
        lab.receiver()
            .run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .context("cannot have the router forward: /proc/sys must be writable")?;
        default_route(lab.sender(), lab.rx().address)?;
        default_route(&far, OUT)?;
        Ok(Self { lab, far })
    }

    /// The address of the far end, behind the router.
    pub(super) fn far_address(&self) -> Ipv4Addr {
        FAR
    }

    /// The router's address on the sender's side.
    pub(super) fn router_address(&self) -> Ipv4Addr {
        self.lab.rx().address
    }
}

fn default_route(namespace: &Namespace, router: Ipv4Addr) -> Result<()> {
    let output = namespace
        .command("ip")?
        .args(["route", "add", "default", "via", &router.to_string()])
        .output()
        .context("cannot start ip: install the package iproute2")?;
    if !output.status.success() {
        bail!(
            "ip cannot add a route: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

//! Ways through the receiver beside the cable: a host beyond it, a tunnel that ends there, its loopback;
//! and frames that no capture may have.

use std::fs;
use std::net::Ipv4Addr;

use lwnflog::lab::{Endpoint, TX, add_veth};
use lwnflog::sys::inject::FrameSocket;

use crate::packets;
use crate::play::{Outcome, Play};
use crate::world::{Checked, World};

/// The host beyond, and the one on the way to it.
pub const BEYOND: [u8; 4] = [198, 51, 100, 9];
pub const VNI: u8 = 7;
/// What an interface of Ethernet takes at the most.
pub const MTU: u32 = 65_535;

/// Lays them: none of it says a word by itself.
pub fn lay(world: &World) {
    let end = |name: &str, last: u8| Endpoint {
        name: name.to_owned(),
        mac: [0x02, 0x6c, 0x77, 0x6e, 0x67, last],
        address: Ipv4Addr::new(198, 51, 100, last),
        prefix_len: 24,
    };
    let lab = &world.lab;
    add_veth(
        (lab.receiver(), &end("fx", 1)),
        (lab.sender(), &end("fy", 2)),
        MTU,
    )
    .unwrap();
    world.receive_ip6("fx");
    let set = || {
        for (what, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/rx/forwarding", "1"),
            ("ipv6/conf/fx/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/rx/rp_filter", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
        ] {
            let _ = fs::write(format!("/proc/sys/net/{what}"), value);
        }
    };
    lab.receiver().run(set).unwrap();
    let there = "lladdr 02:6c:77:6e:67:09 dev fx nud permanent";
    for words in [
        format!("neigh replace 198.51.100.9 {there}"),
        "addr add fd00::2/128 dev rx nodad".to_owned(),
        "route replace fd01::/64 dev fx".to_owned(),
        format!("neigh replace fd01::2 {there}"),
        format!(
            "link add vx0 address 02:6c:77:6e:66:02 type vxlan id {VNI} dstport 4789 local 198.18.0.2 nolearning"
        ),
        "link set vx0 mtu 1400 up".to_owned(),
    ] {
        world.ip(&words);
    }
}

/// Frames that never come to a hook, or are nobody's: LIMITS.md, "What the prerouting hook cannot see".
pub fn foreign(play: &mut Play, packets: u64) -> Checked<Outcome> {
    let frames: Vec<Vec<u8>> = (0..packets).map(odd).collect();
    let send = || {
        let socket = FrameSocket::open(TX).unwrap();
        for some in frames.chunks(lwnflog::sys::inject::BATCH) {
            let slices: Vec<_> = some
                .iter()
                .map(|frame| std::io::IoSlice::new(frame))
                .collect();
            let _ = socket.send(&slices);
        }
    };
    play.world.lab.sender().run(send).unwrap();
    Ok(Outcome::Done)
}

fn odd(nth: u64) -> Vec<u8> {
    let mut frame = packets::frame(1 << 39 | nth, packets::Kind::Udp, 9000, 100);
    match nth % 8 {
        // Of a VLAN that is none here.
        0 => drop(frame.splice(12..12, [0x81, 0, 0, 5])),
        // To another station.
        1 => frame[5] = 77,
        2 => frame[24] ^= 0x55,
        // LLDP, and an EtherType that is none.
        3 => frame[12..14].copy_from_slice(&[0x88, 0xcc]),
        4 => frame[12..14].copy_from_slice(&[0x99, 0x99]),
        // A header that is longer than its packet, another version, a packet that is not all there.
        5 => frame[14] = 0x4f,
        6 => frame[14] = 0x55,
        _ => {
            frame.truncate(60);
        }
    }
    frame
}

/// A packet by each way.
pub fn one_of_each(play: &mut Play) {
    use packets::Kind::{Beyond, Loop, Outer, Udp};
    for kind in [Udp, Beyond, Loop, Outer] {
        let what = crate::traffic::What {
            kind,
            port: 9000,
            from: 100,
            to: 100,
        };
        play.traffic.send(what, 1, None);
    }
    play.fence();
}

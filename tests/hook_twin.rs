//! The assembled program and its C twin (`tests/hook_twin.c`, compiled by clang) leave the same
//! records.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{namespace, temp_dir};
use lwnflog::source::hook::assembler::Assembled;
use lwnflog::source::hook::program::{Parameters, Types};
use lwnflog::source::hook::{Hook, HookConfig, HookPoint};
use lwnflog::source::{Arrival, Item, Source, Walk};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

/// In `bpf_insn.src_reg`: what a wide load or a call refers to (`linux/bpf.h`).
const PSEUDO_MAP_FD: u64 = 1;
const PSEUDO_MAP_VALUE: u64 = 2;
const PSEUDO_KFUNC_CALL: u64 = 2;

fn clang() -> Option<String> {
    let names = (14..30).rev().map(|version| format!("clang-{version}"));
    let mut names = ["clang".to_owned()].into_iter().chain(names);
    names.find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// Compiles the twin for these places, and puts the maps in.
fn compiled(clang: &str, p: &Parameters) -> Vec<u64> {
    let dir = temp_dir();
    let object = dir.path().join("twin.o");
    let t: &Types = &p.types;
    let (kind, mask) = t.skb_tstamp_type.unwrap_or_default();
    let places = [
        ("CTX_SKB", t.ctx_skb),
        ("SKB_LEN", t.skb_len),
        ("SKB_TSTAMP", t.skb_tstamp),
        ("SKB_TSTAMP_TYPE", kind),
        ("SKB_TSTAMP_TYPE_MASK", mask),
        ("SKB_MARK", t.skb_mark),
        ("SKB_DEV", t.skb_dev),
        ("SKB_HEAD", t.skb_head),
        ("SKB_MAC_HEADER", t.skb_mac_header),
        ("DEV_IFINDEX", t.dev_ifindex),
        ("DEV_TYPE", t.dev_type),
    ];
    let mut command = Command::new(clang);
    command.args(["-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-c", "-o"]);
    command.arg(&object);
    for (name, place) in places {
        command.arg(format!("-D{name}={place}"));
    }
    command.arg(format!("-DRING={}u", p.ring_bytes));
    command.arg(format!("-DCOPY_RANGE={}u", p.copy_range_bytes));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hook_twin.c");
    let done = command.arg(source).output().unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );

    let bytes = fs::read(&object).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let text = file.section_by_name(".text").unwrap();
    let words = text.data().unwrap().as_chunks::<8>().0;
    let mut instructions: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    for (offset, relocation) in text.relocations() {
        let RelocationTarget::Symbol(symbol) = relocation.target() else {
            panic!("{relocation:?}")
        };
        let at = usize::try_from(offset / 8).unwrap();
        let (kind, constant) = match file.symbol_by_index(symbol).unwrap().name().unwrap() {
            "rings" => (PSEUDO_MAP_FD, p.rings.cast_unsigned()),
            "settings" => (PSEUDO_MAP_VALUE, p.settings.cast_unsigned()),
            "bpf_dynptr_from_skb" => (PSEUDO_KFUNC_CALL, t.dynptr_from_skb),
            other => panic!("{other}"),
        };
        // Source register, and the constant; of a map's value, the place in it stays in the second
        // half.
        let (code, wide) = (instructions[at] & 0xff, instructions[at] & 0xff == 0x18);
        let inside = if wide && kind == PSEUDO_MAP_VALUE {
            instructions[at] >> 32
        } else {
            0
        };
        let kept = instructions[at] & 0x0000_0000_ffff_0fff;
        instructions[at] = kept | code | kind << 12 | u64::from(constant) << 32;
        if wide {
            instructions[at + 1] = (instructions[at + 1] & 0xffff_ffff) | inside << 32;
        }
    }
    instructions
}

/// A packet as far as both programs write it: all but its time.
type Written = (Vec<u8>, Vec<u8>, u32, u32, u32, u16, u32);

fn written(mut hook: Hook) -> (Vec<Written>, u64) {
    hook.detach().unwrap();
    let mut all = Vec::new();
    while hook.receive(false).unwrap() == Arrival::Batch {
        let mut batch = hook.batch();
        while let Some(item) = batch.next() {
            let Item::Packet(packet) = item else {
                panic!("{item:?}")
            };
            assert!(packet.stamp_ticks.is_some());
            all.push((
                packet.hw_header.to_vec(),
                packet.payload.to_vec(),
                packet.network_len(),
                packet.ifindex(),
                packet.mark,
                packet.hw_type,
                packet.sequence.unwrap(),
            ));
        }
        hook.finish_batch().unwrap();
    }
    (all, hook.ledger().unwrap().detected)
}

#[test]
fn the_c_twin_leaves_the_same_bytes() {
    let Some(clang) = clang() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "this test needs clang: install the package clang"
        );
        eprintln!("NOT CHECKED: the C twin of the hook's program, because there is no clang");
        return;
    };
    let space = namespace();
    for copy_range_bytes in [20, 114, 1500] {
        let open = |twin: bool| {
            let config = HookConfig::new(HookPoint::Prerouting, copy_range_bytes);
            let opened = space.run(|| {
                if twin {
                    Hook::open_with(config, &mut |parameters| {
                        Ok(Assembled {
                            instructions: compiled(&clang, parameters),
                            listing: String::new(),
                        })
                    })
                } else {
                    Hook::open(config)
                }
            });
            opened.unwrap().unwrap_or_else(|error| panic!("{error}"))
        };
        let (assembled, twin) = (open(false), open(true));
        for length in [20, 21, 40, 113, 114, 115, 128, 256, 600, 1500] {
            let mut packet: Vec<u8> = (0..=250).cycle().take(length).collect();
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            let runs = [&assembled, &twin].map(|hook| hook.test_run(&packet, 3).unwrap().verdict);
            assert_eq!(runs, [1, 1], "NF_ACCEPT");
        }
        // And traffic of the loopback interface, which has an Ethernet header.
        let ping = ["-q", "-c", "5", "-i", "0.01", "-s", "1000", "127.0.0.1"];
        common::run_in(&space, "ping", &ping);
        let (assembled, twin) = (written(assembled), written(twin));
        assert_eq!(assembled.1, 10 * 3 + 10);
        assert_eq!(assembled, twin, "{copy_range_bytes}");
    }
}

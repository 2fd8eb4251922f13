//! The program at the hook, put together for what the kernel's types and the settings say.
//!
//! `docs/HOOK.md` goes through it line by line.

mod cutoff;
mod select;
mod types;

use std::os::fd::RawFd;

use cutoff::cut_off;
use select::{select, test_interface, test_mark};
pub use types::Types;

use super::assembler::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use super::assembler::Size::{U8, U16, U32, U64};
use super::assembler::{Alu, AssembleError, Assembled, Assembler, Helper, If, Reg};
use super::layout::{
    ALIGN, ALL_INTERFACES, BUSY, BYTES, COPY_RANGE, CUTOFF, DETECTED, DROPPED, HEAD, INTERFACES,
    LATE, LEFT_CUTOFF, LEFT_INTERFACE, LEFT_MARK, LEFT_PAUSED, LEFT_SAMPLE, NESTED, PACKET,
    RECORD_BYTES, RECORD_CAPTURED, RECORD_DROPPED, RECORD_ETHERNET, RECORD_INTERFACE, RECORD_MARK,
    RECORD_ORIGINAL, RECORD_STAMP, RECORD_TYPE, SAMPLE, SKIP, SLOTS, TAI_AHEAD, TAIL,
    WITHOUT_RING_INTERFACE, WITHOUT_RING_MARK, WITHOUT_RING_PAUSED,
};

/// `NF_DROP` and `NF_ACCEPT`.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK`: interfaces whose packets have an Ethernet header.
const ETHERNET: i32 = 1;
const LOOPBACK: i32 = 772;
const ETHERNET_BYTES: i32 = 14;
/// Up to so many bytes one copy of header and packet together is cheaper than two.
const SHORT_BYTES: u32 = 256;
/// Bytes of a key and of a value of the connections.
pub const CONNECTION_KEY_BYTES: u32 = 16;
/// Bytes of a value of the connections.
pub const CONNECTION_VALUE_BYTES: u32 = 16;
/// A connection at rest for so long is a new one when it goes on.
const CONNECTION_IDLE_NS: u64 = 120_000_000_000;

/// How the program finds the ring of its processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// Ring N is that of processor N.
    Direct,
    /// By the table of so many processors in the settings.
    Table(u32),
}

/// What the program is to do.
#[derive(Debug, Clone, Copy)]
pub struct Parameters {
    /// What this kernel says.
    pub types: Types,
    /// The map of rings.
    pub rings: RawFd,
    /// The map of settings.
    pub settings: RawFd,
    /// The map of connections, where only their first bytes are captured.
    pub cutoff: Option<RawFd>,
    /// Bytes of a ring, a power of two.
    pub ring_bytes: u32,
    /// Bytes to copy of each packet at the most; how many, the settings say.
    pub copy_range_bytes: u32,
    /// How the ring is found.
    pub processors: Processors,
    /// How many interfaces can be compared with; 0 is all.
    pub interfaces: usize,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    /// Whether one packet in so many is captured, as the settings say.
    pub sample: bool,
    /// Whether what is captured is dropped.
    pub drop: bool,
    /// Whether the program may be called while it is at work on the same ring.
    pub guard: bool,
}

/// Where things stand on the program's stack, from its end down.
mod stack {
    pub(super) const PROCESSOR: i32 = -4;
    pub(super) const POINTER: i32 = -24; // struct bpf_dynptr
    pub(super) const IP: i32 = -48; // 20 bytes
    pub(super) const KEY: i32 = -64;
    pub(super) const VALUE: i32 = -80;
    pub(super) const TRANSPORT: i32 = -96; // 14 bytes
}

/// An offset of the layout, as instructions take it.
const fn at(offset: usize) -> i32 {
    assert!(offset < 32_768);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "just checked"
    )]
    let offset = offset as i32;
    offset
}

/// A member of the record that `r9` stands before.
const fn of_record(offset: usize) -> i32 {
    at(BYTES + offset)
}

fn add_one(a: &mut Assembler, base: Reg, offset: usize) {
    a.load(U64, R1, base, at(offset));
    a.alu(Alu::Add, R1, 1);
    a.store(U64, base, at(offset), R1);
}

/// Puts the program together.
///
/// # Errors
/// A fault of this code.
pub fn assemble(p: &Parameters) -> Result<Assembled, AssembleError> {
    let mut a = Assembler::new();
    find_ring(&mut a, p);
    select(&mut a, p);
    if let Some(connections) = p.cutoff {
        cut_off(&mut a, p, connections);
    }
    reserve(&mut a, p);
    describe(&mut a, p);
    copy(&mut a, p);
    publish(&mut a, p);
    leave(&mut a, p);
    a.finish()
}

/// `r7` is the packet, `r8` the ring.
fn find_ring(a: &mut Assembler, p: &Parameters) {
    a.c("struct sk_buff *skb = ctx->skb;");
    a.load(U64, R7, R1, p.types.ctx_skb);
    a.c("u32 cpu = bpf_get_smp_processor_id();");
    a.call(Helper::GetSmpProcessorId);
    if let Processors::Table(count) = p.processors {
        a.c("if (cpu >= COUNT) goto late;");
        a.jump_if(R0, If::GreaterOrEqual, count.cast_signed(), "late");
        a.c("u32 slot = settings->slots[cpu];");
        a.alu(Alu::ShiftLeft, R0, 2);
        a.map_value(R1, p.settings, "settings");
        a.alu(Alu::Add, R1, R0);
        a.load(U32, R0, R1, at(SLOTS));
    }
    a.c("struct ring *r = bpf_map_lookup_elem(&rings, &cpu); if (!r) goto late;");
    a.store(U32, R10, stack::PROCESSOR, R0);
    a.map(R1, p.rings, "rings");
    a.set(R2, R10);
    a.alu(Alu::Add, R2, stack::PROCESSOR);
    a.call(Helper::MapLookupElem);
    a.jump_if(R0, If::Equal, 0, "late");
    a.set(R8, R0);
    if p.guard {
        a.c("if (xchg(&r->busy, 1)) goto nested;");
        a.set(R1, 1);
        a.exchange(R8, at(BUSY), R1);
        a.jump_if(R1, If::NotEqual, 0, "nested");
    }
    a.c("r->detected++;");
    add_one(a, R8, DETECTED);
}

fn make_pointer(a: &mut Assembler, p: &Parameters) {
    a.c("bpf_dynptr_from_skb(skb, 0, &pointer);");
    a.set(R1, R7);
    a.set(R2, 0);
    a.set(R3, R10);
    a.alu(Alu::Add, R3, stack::POINTER);
    a.call_kernel(p.types.dynptr_from_skb, "bpf_dynptr_from_skb");
}

/// `r6` is how much of the packet is copied; `r9` stands [`BYTES`] before the record.
fn reserve(a: &mut Assembler, p: &Parameters) {
    a.c("u32 n = min(skb->len, settings->copy_range);");
    a.map_value(R6, p.settings, "settings");
    a.load(U32, R6, R6, at(COPY_RANGE));
    a.load(U32, R1, R7, p.types.skb_len);
    a.jump_if(R1, If::GreaterOrEqual, R6, "length_wanted");
    a.set(R6, R1);
    a.label("length_wanted");
    a.c("n = min(n, COPY_RANGE_MAX); // the verifier has to see a number");
    a.jump_if(
        R6,
        If::LessOrEqual,
        p.copy_range_bytes.cast_signed(),
        "length_known",
    );
    a.set(R6, p.copy_range_bytes.cast_signed());
    a.label("length_known");
    a.c("u64 total = (48 + n + 7) & ~7;");
    a.set(R2, R6);
    a.alu(Alu::Add, R2, at(PACKET + ALIGN - 1));
    a.alu(Alu::And, R2, -at(ALIGN));
    a.c("if (r->head + total - r->tail > RING) goto dropped;");
    a.load(U64, R3, R8, at(HEAD));
    a.load(U64, R4, R8, at(TAIL));
    a.set(R5, R3);
    a.alu(Alu::Add, R5, R2);
    a.alu(Alu::Sub, R5, R4);
    a.jump_if(R5, If::Greater, p.ring_bytes.cast_signed(), "dropped");
    a.c("struct record *s = r->bytes + (r->head & (RING - 8));");
    a.alu(Alu::And, R3, p.ring_bytes.cast_signed() - at(ALIGN));
    a.set(R9, R8);
    a.alu(Alu::Add, R9, R3);
    a.c("s->bytes = total; s->original = skb->len; s->captured = n;");
    a.store(U32, R9, of_record(RECORD_BYTES), R2);
    a.store(U32, R9, of_record(RECORD_ORIGINAL), R1);
    a.store(U32, R9, of_record(RECORD_CAPTURED), R6);
}

/// The record's head: time, losses, mark, interface. `r2` is the interface's type then.
fn describe(a: &mut Assembler, p: &Parameters) {
    a.c("u64 time = skb->tstamp; if (!time || skb->tstamp_type) // a time to send at");
    a.load(U64, R0, R7, p.types.skb_tstamp);
    a.jump_if(R0, If::Equal, 0, "clock");
    if let Some((byte, bits)) = p.types.skb_tstamp_type {
        a.load(U8, R1, R7, byte);
        a.jump_if(R1, If::Set, bits, "clock");
    }
    a.jump("stamped");
    a.label("clock");
    a.c("    time = bpf_ktime_get_tai_ns() - settings->tai_ahead;");
    a.call(Helper::KtimeGetTaiNs);
    a.map_value(R1, p.settings, "settings");
    a.load(U64, R1, R1, at(TAI_AHEAD));
    a.alu(Alu::Sub, R0, R1);
    a.label("stamped");
    a.c("s->stamp = time; s->dropped = r->dropped; s->mark = skb->mark;");
    a.store(U64, R9, of_record(RECORD_STAMP), R0);
    a.load(U64, R1, R8, at(DROPPED));
    a.store(U32, R9, of_record(RECORD_DROPPED), R1);
    a.load(U32, R1, R7, p.types.skb_mark);
    a.store(U32, R9, of_record(RECORD_MARK), R1);
    a.c("s->interface = skb->dev->ifindex; s->type = skb->dev->type;");
    a.load(U64, R1, R7, p.types.skb_dev);
    a.load(U32, R2, R1, p.types.dev_ifindex);
    a.store(U32, R9, of_record(RECORD_INTERFACE), R2);
    a.load(U16, R2, R1, p.types.dev_type);
    a.store(U16, R9, of_record(RECORD_TYPE), R2);
}

fn copy(a: &mut Assembler, p: &Parameters) {
    a.c("if (s->type != ARPHRD_ETHER && s->type != ARPHRD_LOOPBACK) goto packet_only;");
    a.jump_if(R2, If::Equal, ETHERNET, "ethernet");
    a.jump_if(R2, If::NotEqual, LOOPBACK, "packet_only");
    a.label("ethernet");
    a.c("void *mac = skb->head + skb->mac_header;");
    a.load(U64, R3, R7, p.types.skb_head);
    a.load(U16, R1, R7, p.types.skb_mac_header);
    a.alu(Alu::Add, R3, R1);
    a.c("if (n <= 256 && !skb->data_len && skb->data - mac == 14) // short, and in one piece");
    if p.copy_range_bytes > SHORT_BYTES {
        a.jump_if(R6, If::Greater, SHORT_BYTES.cast_signed(), "header_alone");
    }
    a.load(U32, R1, R7, p.types.skb_data_len);
    a.jump_if(R1, If::NotEqual, 0, "header_alone");
    a.load(U64, R1, R7, p.types.skb_data);
    a.alu(Alu::Sub, R1, R3);
    a.jump_if(R1, If::NotEqual, ETHERNET_BYTES, "header_alone");
    a.c("{ bpf_probe_read_kernel(s->ethernet, 14 + n, mac); goto publish; }");
    a.set(R1, R9);
    a.alu(Alu::Add, R1, of_record(RECORD_ETHERNET));
    a.set(R2, R6);
    a.alu(Alu::Add, R2, ETHERNET_BYTES);
    a.call(Helper::ProbeReadKernel);
    a.jump("publish");
    a.label("header_alone");
    a.c("bpf_probe_read_kernel(s->ethernet, 14, mac);");
    a.set(R1, R9);
    a.alu(Alu::Add, R1, of_record(RECORD_ETHERNET));
    a.set(R2, ETHERNET_BYTES);
    a.call(Helper::ProbeReadKernel);
    a.label("packet_only");
    if p.cutoff.is_none() {
        make_pointer(a, p);
    }
    a.c("bpf_dynptr_read(s->packet, n, &pointer, 0, 0);");
    a.set(R1, R9);
    a.alu(Alu::Add, R1, of_record(PACKET));
    a.set(R2, R6);
    a.set(R3, R10);
    a.alu(Alu::Add, R3, stack::POINTER);
    a.set(R4, 0);
    a.set(R5, 0);
    a.call(Helper::DynptrRead);
}

/// The head moves last, past a record that is there as a whole.
fn publish(a: &mut Assembler, p: &Parameters) {
    a.label("publish");
    a.c("u64 head = r->head, total = s->bytes, next = head + total;");
    a.load(U64, R2, R8, at(HEAD));
    a.load(U32, R3, R9, of_record(RECORD_BYTES));
    a.set(R1, R2);
    a.alu(Alu::Add, R1, R3);
    a.c("if ((head & (RING - 1)) + total >= RING) next = (head | (RING - 1)) + 1;");
    let mask = p.ring_bytes.cast_signed() - 1;
    a.set(R4, R2);
    a.alu(Alu::And, R4, mask);
    a.alu(Alu::Add, R4, R3);
    a.jump_if(R4, If::Less, p.ring_bytes.cast_signed(), "advance");
    a.set(R1, R2);
    a.alu(Alu::Or, R1, mask);
    a.alu(Alu::Add, R1, 1);
    a.label("advance");
    if cfg!(any(target_arch = "x86_64", target_arch = "s390x")) {
        a.c("r->head = next; // this processor makes stores visible in order");
        a.store(U64, R8, at(HEAD), R1);
    } else {
        a.c("xchg(&r->head, next); // all stores before are visible before");
        a.exchange(R8, at(HEAD), R1);
    }
}

/// All ways out.
fn leave(a: &mut Assembler, p: &Parameters) {
    let verdict = if p.drop { DROP } else { ACCEPT };
    let end = |a: &mut Assembler, verdict: i32| {
        if p.guard {
            a.c("xchg(&r->busy, 0);");
            a.set(R1, 0);
            a.exchange(R8, at(BUSY), R1);
        }
        a.c(if verdict == DROP {
            "return NF_DROP;"
        } else {
            "return NF_ACCEPT;"
        });
        a.set(R0, verdict);
        a.exit();
    };
    a.label("verdict");
    end(a, verdict);
    a.label("dropped");
    a.c("r->dropped++; return verdict(r);");
    add_one(a, R8, DROPPED);
    a.jump("verdict");
    if p.interfaces != 0 || p.mark.is_some() {
        a.label("pass");
        end(a, ACCEPT);
    }
    without_ring(a, p, verdict);
}

/// No ring can be had: of a processor that came later there is none, or the program is at work on
/// it. What is wanted is told apart all the same, and gets the verdict.
fn without_ring(a: &mut Assembler, p: &Parameters, verdict: i32) {
    let count = |a: &mut Assembler, offset| {
        a.map_value(R1, p.settings, "settings");
        a.set(R2, 1);
        a.atomic_add(R1, at(offset), R2);
    };
    let end = |a: &mut Assembler, verdict| {
        a.set(R0, verdict);
        a.exit();
    };
    let of = if verdict == DROP {
        "NF_DROP"
    } else {
        "NF_ACCEPT"
    };
    if p.guard {
        a.label("nested");
        a.c("u64 *lost = &settings->nested; goto without_ring;");
        a.map_value(R6, p.settings, "settings");
        a.alu(Alu::Add, R6, at(NESTED));
        a.jump("without_ring");
    }
    a.label("late");
    a.c("u64 *lost = &settings->late;");
    a.map_value(R6, p.settings, "settings");
    a.alu(Alu::Add, R6, at(LATE));
    a.label("without_ring");
    if p.interfaces != 0 {
        test_interface(a, p, "without_ring_interface_wanted");
        a.c("lock settings->without_ring_interface++; return NF_ACCEPT;");
        count(a, WITHOUT_RING_INTERFACE);
        end(a, ACCEPT);
        a.label("without_ring_interface_wanted");
    }
    if let Some(mark) = p.mark {
        test_mark(a, p, mark, "without_ring_mark_wanted");
        a.c("lock settings->without_ring_mark++; return NF_ACCEPT;");
        count(a, WITHOUT_RING_MARK);
        end(a, ACCEPT);
        a.label("without_ring_mark_wanted");
    }
    a.c("if (!settings->copy_range) lost = &settings->without_ring_paused;");
    a.map_value(R1, p.settings, "settings");
    a.load(U64, R2, R1, at(COPY_RANGE));
    a.jump_if(R2, If::NotEqual, 0, "count_lost");
    a.set(R6, R1);
    a.alu(Alu::Add, R6, at(WITHOUT_RING_PAUSED));
    a.label("count_lost");
    a.c(format!("lock ++*lost; return {of};"));
    a.set(R2, 1);
    a.atomic_add(R6, 0, R2);
    end(a, verdict);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As on an x86-64 host with Linux 6.18.
    fn parameters() -> Parameters {
        Parameters {
            types: Types {
                ctx_skb: 8,
                skb_len: 112,
                skb_data_len: 116,
                skb_tstamp: 32,
                skb_tstamp_type: Some((128, 3)),
                skb_mark: 168,
                skb_dev: 16,
                skb_head: 200,
                skb_data: 208,
                skb_mac_header: 186,
                dev_ifindex: 224,
                dev_type: 564,
                dynptr_from_skb: 70_000,
            },
            rings: 3,
            settings: 4,
            cutoff: None,
            ring_bytes: 32 << 20,
            copy_range_bytes: 65_535,
            processors: Processors::Direct,
            interfaces: 0,
            mark: None,
            sample: false,
            drop: false,
            guard: false,
        }
    }

    /// The listing in `docs/HOOK.md` is what is loaded.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_listing_is_that_of_the_document() {
        let plain = assemble(&parameters()).unwrap().listing;
        let all = Parameters {
            cutoff: Some(5),
            processors: Processors::Table(8),
            interfaces: 2,
            mark: Some((0x80, 0x80)),
            sample: true,
            drop: true,
            guard: true,
            ..parameters()
        };
        let all = assemble(&all).unwrap().listing;
        let document = include_str!("../../../../docs/HOOK.md");
        for listing in [&plain, &all] {
            let block = format!("```text\n{listing}```\n");
            assert!(
                document.contains(&block),
                "docs/HOOK.md shows another program than this:\n{listing}"
            );
        }
    }

    #[test]
    fn every_way_of_putting_it_together_assembles() {
        for bits in 0..128u32 {
            let on = |bit: u32| bits >> bit & 1 != 0;
            let p = Parameters {
                cutoff: on(0).then_some(5),
                processors: if on(1) {
                    Processors::Table(4)
                } else {
                    Processors::Direct
                },
                interfaces: if on(2) { 16 } else { 0 },
                mark: on(3).then_some((u32::MAX, u32::MAX)),
                sample: on(4),
                drop: on(5),
                guard: on(6),
                ..parameters()
            };
            let made = assemble(&p).unwrap();
            assert!(made.instructions.len() < 500);
        }
    }
}

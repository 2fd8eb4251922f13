//! Which packets are wanted: interface, mark, pause, sample.

use super::*;

/// Whether the packet is wanted: interface, mark, pause, sample.
pub(super) fn select(a: &mut Assembler, p: &Parameters) {
    if p.interfaces != 0 {
        test_interface(a, p, "interface_wanted");
        a.c("r->left_interface++; return pass(r);");
        add_one(a, R8, LEFT_INTERFACE);
        a.jump("pass");
        a.label("interface_wanted");
    }
    if let Some(mark) = p.mark {
        test_mark(a, p, mark, "mark_wanted");
        a.c("r->left_mark++; return pass(r);");
        add_one(a, R8, LEFT_MARK);
        a.jump("pass");
        a.label("mark_wanted");
    }
    a.c("if (!settings->copy_range) { r->left_paused++; return verdict(r); }");
    a.map_value(R1, p.settings, "settings");
    a.load(U64, R1, R1, at(COPY_RANGE));
    a.jump_if(R1, If::NotEqual, 0, "not_paused");
    add_one(a, R8, LEFT_PAUSED);
    a.jump("verdict");
    a.label("not_paused");
    if p.sample {
        sample(a, p);
    }
}

/// Goes to `wanted` with packets of the interfaces that are captured.
pub(super) fn test_interface(a: &mut Assembler, p: &Parameters, wanted: &'static str) {
    a.c("u32 interface = skb->dev->ifindex;");
    a.load(U64, R1, R7, p.types.skb_dev);
    a.load(U32, R1, R1, p.types.dev_ifindex);
    a.c(format!("if (settings->all_interfaces) goto {wanted};"));
    a.map_value(R2, p.settings, "settings");
    a.load(U64, R3, R2, at(ALL_INTERFACES));
    a.jump_if(R3, If::NotEqual, 0, wanted);
    for number in 0..p.interfaces {
        a.c(format!(
            "if (interface == settings->interfaces[{number}]) goto {wanted};"
        ));
        a.load(U32, R3, R2, at(INTERFACES + 4 * number));
        a.jump_if(R1, If::Equal, R3, wanted);
    }
}

/// Goes to `wanted` with packets that have the mark.
pub(super) fn test_mark(
    a: &mut Assembler,
    p: &Parameters,
    (value, mask): (u32, u32),
    wanted: &'static str,
) {
    a.c(format!("if ((skb->mark & MASK) == VALUE) goto {wanted};"));
    a.load(U32, R1, R7, p.types.skb_mark);
    a.alu(Alu::And, R1, mask.cast_signed());
    a.jump_if_32(R1, If::Equal, value.cast_signed(), wanted);
}

/// One packet in so many: how many are passed over until the next is left to chance, because
/// traffic has a beat of its own (a request, an answer).
fn sample(a: &mut Assembler, p: &Parameters) {
    a.c("u64 range = 2 * settings->sample; // between 0 and range - 2: sample - 1 in the mean");
    a.map_value(R2, p.settings, "settings");
    a.load(U64, R2, R2, at(SAMPLE));
    a.alu(Alu::ShiftLeft, R2, 1);
    a.c("if (!r->skip || r->skip >= range) goto sampled; // the sample may have become denser");
    a.load(U64, R1, R8, at(SKIP));
    a.jump_if(R1, If::Equal, 0, "sampled");
    a.jump_if(R1, If::GreaterOrEqual, R2, "sampled");
    a.c("r->skip--; r->left_sample++; return verdict(r);");
    a.alu(Alu::Sub, R1, 1);
    a.store(U64, R8, at(SKIP), R1);
    add_one(a, R8, LEFT_SAMPLE);
    a.jump("verdict");
    a.label("sampled");
    a.c("r->skip = bpf_get_prandom_u32() % (range - 1);");
    a.set(R6, R2);
    a.alu(Alu::Sub, R6, 1);
    a.call(Helper::GetPrandomU32);
    a.alu(Alu::Modulo, R0, R6);
    a.store(U64, R8, at(SKIP), R0);
}

//! A small assembler for eBPF: instructions, labels, and a listing beside the C they stand for.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::os::fd::RawFd;

/// A register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    /// What calls return, and the verdict.
    R0,
    /// First argument.
    R1,
    /// Second argument.
    R2,
    /// Third argument.
    R3,
    /// Fourth argument.
    R4,
    /// Fifth argument.
    R5,
    /// Kept over calls.
    R6,
    /// Kept over calls.
    R7,
    /// Kept over calls.
    R8,
    /// Kept over calls.
    R9,
    /// The stack's end; read-only.
    R10,
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", *self as u8)
    }
}

/// How many bytes a load or store moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// One.
    U8 = 0x10,
    /// Two.
    U16 = 0x08,
    /// Four.
    U32 = 0x00,
    /// Eight.
    U64 = 0x18,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Size::U8 => "u8",
            Size::U16 => "u16",
            Size::U32 => "u32",
            Size::U64 => "u64",
        })
    }
}

/// Arithmetic on 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    /// What remains.
    Modulo = 0x90,
    Xor = 0xa0,
    Move = 0xb0,
}

impl Alu {
    fn sign(self) -> &'static str {
        match self {
            Alu::Add => "+=",
            Alu::Sub => "-=",
            Alu::Or => "|=",
            Alu::And => "&=",
            Alu::ShiftLeft => "<<=",
            Alu::ShiftRight => ">>=",
            Alu::Modulo => "%=",
            Alu::Xor => "^=",
            Alu::Move => "=",
        }
    }
}

/// When a jump is taken, comparing without sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum If {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    Set = 0x40,
    NotEqual = 0x50,
    Less = 0xa0,
    LessOrEqual = 0xb0,
}

impl If {
    fn sign(self) -> &'static str {
        match self {
            If::Equal => "==",
            If::Greater => ">",
            If::GreaterOrEqual => ">=",
            If::Set => "&",
            If::NotEqual => "!=",
            If::Less => "<",
            If::LessOrEqual => "<=",
        }
    }
}

/// What an operation takes on its right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant, extended with its sign to 64 bits.
    Constant(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Operand::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Self {
        Operand::Constant(constant)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Reg(reg) => reg.fmt(f),
            Operand::Constant(constant) => constant.fmt(f),
        }
    }
}

/// A helper of the kernel (`enum bpf_func_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "the kernel documents them")]
pub enum Helper {
    MapLookupElem = 1,
    MapUpdateElem = 2,
    GetSmpProcessorId = 8,
    ProbeReadKernel = 113,
    KtimeGetNs = 5,
    GetPrandomU32 = 7,
    DynptrRead = 201,
    KtimeGetTaiNs = 208,
}

impl Helper {
    fn name(self) -> &'static str {
        match self {
            Helper::MapLookupElem => "bpf_map_lookup_elem",
            Helper::MapUpdateElem => "bpf_map_update_elem",
            Helper::GetSmpProcessorId => "bpf_get_smp_processor_id",
            Helper::ProbeReadKernel => "bpf_probe_read_kernel",
            Helper::KtimeGetNs => "bpf_ktime_get_ns",
            Helper::GetPrandomU32 => "bpf_get_prandom_u32",
            Helper::DynptrRead => "bpf_dynptr_read",
            Helper::KtimeGetTaiNs => "bpf_ktime_get_tai_ns",
        }
    }
}

/// What is wrong with a program that does not assemble: a fault of this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A jump to nowhere.
    #[error("there is no label `{0}`")]
    NoLabel(&'static str),
    /// Two places of one name.
    #[error("the label `{0}` stands twice")]
    TwoLabels(&'static str),
    /// More than an offset can say.
    #[error("`{0}` does not fit an offset of 16 bits")]
    TooFar(String),
}

/// A place in the listing.
#[derive(Debug)]
enum Line {
    C(String),
    Label(&'static str),
    Instruction(usize, String),
}

/// `struct bpf_insn` before it is put together.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    constant: i32,
}

impl Instruction {
    /// As the kernel reads it. The registers share a byte, as bit fields, whose order is the
    /// machine's.
    fn bits(self) -> u64 {
        let registers = if cfg!(target_endian = "little") {
            self.to | self.from << 4
        } else {
            self.to << 4 | self.from
        };
        let offset = self.offset.to_ne_bytes();
        let constant = self.constant.to_ne_bytes();
        u64::from_ne_bytes([
            self.code,
            registers,
            offset[0],
            offset[1],
            constant[0],
            constant[1],
            constant[2],
            constant[3],
        ])
    }
}

/// Puts a program together.
#[derive(Debug, Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    labels: HashMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
    lines: Vec<Line>,
    error: Option<AssembleError>,
}

/// A program, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// `struct bpf_insn`, each as the kernel reads it.
    pub instructions: Vec<u64>,
    /// The listing, as text.
    pub listing: String,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line of C that the next instructions stand for.
    pub fn c(&mut self, line: impl Into<String>) {
        self.lines.push(Line::C(line.into()));
    }

    /// A place to jump to.
    pub fn label(&mut self, name: &'static str) {
        if self.labels.insert(name, self.instructions.len()).is_some() {
            self.error.get_or_insert(AssembleError::TwoLabels(name));
        }
        self.lines.push(Line::Label(name));
    }

    fn put(&mut self, code: u8, to: Reg, from: u8, offset: i32, constant: i32, text: String) {
        let offset = match i16::try_from(offset) {
            Ok(offset) => offset,
            Err(_) => {
                self.error
                    .get_or_insert(AssembleError::TooFar(text.clone()));
                0
            }
        };
        self.lines
            .push(Line::Instruction(self.instructions.len(), text));
        self.instructions.push(Instruction {
            code,
            to: to as u8,
            from,
            offset,
            constant,
        });
    }

    /// `to OP= operand`, on 64 bits.
    pub fn alu(&mut self, op: Alu, to: Reg, operand: impl Into<Operand>) {
        let operand = operand.into();
        let text = format!("{to} {} {operand}", op.sign());
        match operand {
            Operand::Reg(from) => self.put(0x0f | op as u8, to, from as u8, 0, 0, text),
            Operand::Constant(constant) => self.put(0x07 | op as u8, to, 0, 0, constant, text),
        }
    }

    /// `to = operand`
    pub fn set(&mut self, to: Reg, operand: impl Into<Operand>) {
        self.alu(Alu::Move, to, operand);
    }

    /// `to = *(size *)(from + offset)`
    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i32) {
        let text = format!("{to} = *({size} *)({from} + {offset})");
        self.put(0x61 | size as u8, to, from as u8, offset, 0, text);
    }

    /// `*(size *)(to + offset) = operand`
    pub fn store(&mut self, size: Size, to: Reg, offset: i32, operand: impl Into<Operand>) {
        let operand = operand.into();
        let text = format!("*({size} *)({to} + {offset}) = {operand}");
        match operand {
            Operand::Reg(from) => self.put(0x63 | size as u8, to, from as u8, offset, 0, text),
            Operand::Constant(value) => self.put(0x62 | size as u8, to, 0, offset, value, text),
        }
    }

    /// `lock *(u64 *)(to + offset) += from`
    pub fn atomic_add(&mut self, to: Reg, offset: i32, from: Reg) {
        let text = format!("lock *(u64 *)({to} + {offset}) += {from}");
        self.put(0xdb, to, from as u8, offset, 0x00, text);
    }

    /// `from = xchg(*(u64 *)(to + offset), from)`, which orders all that stands before and behind
    /// it.
    pub fn exchange(&mut self, to: Reg, offset: i32, from: Reg) {
        let text = format!("{from} = xchg((u64 *)({to} + {offset}), {from})");
        self.put(0xdb, to, from as u8, offset, 0xe1, text);
    }

    /// Jumps.
    pub fn jump(&mut self, label: &'static str) {
        self.jumps.push((self.instructions.len(), label));
        self.put(0x05, Reg::R0, 0, 0, 0, format!("goto {label}"));
    }

    /// Jumps if `left CONDITION right`, on 64 bits.
    pub fn jump_if(
        &mut self,
        left: Reg,
        condition: If,
        right: impl Into<Operand>,
        label: &'static str,
    ) {
        let right = right.into();
        let text = format!("if {left} {} {right} goto {label}", condition.sign());
        self.jumps.push((self.instructions.len(), label));
        match right {
            Operand::Reg(right) => {
                self.put(0x0d | condition as u8, left, right as u8, 0, 0, text);
            }
            Operand::Constant(right) => self.put(0x05 | condition as u8, left, 0, 0, right, text),
        }
    }

    /// `if left CONDITION right goto label`, on the lower 32 bits.
    pub fn jump_if_32(&mut self, left: Reg, condition: If, right: i32, label: &'static str) {
        let text = format!(
            "if (u32){left} {} {right:#x} goto {label}",
            condition.sign()
        );
        self.jumps.push((self.instructions.len(), label));
        self.put(0x06 | condition as u8, left, 0, 0, right, text);
    }

    /// Calls a helper.
    pub fn call(&mut self, helper: Helper) {
        let number = i32::from(helper as u16);
        self.put(
            0x85,
            Reg::R0,
            0,
            0,
            number,
            format!("call {}", helper.name()),
        );
    }

    /// Calls a function of the kernel by its type id.
    pub fn call_kernel(&mut self, id: u32, name: &str) {
        self.put(
            0x85,
            Reg::R0,
            2,
            0,
            id.cast_signed(),
            format!("call {name}"),
        );
    }

    /// `to = &map`
    pub fn map(&mut self, to: Reg, fd: RawFd, name: &str) {
        self.put(0x18, to, 1, 0, fd, format!("{to} = &{name}"));
        self.second_half(0);
    }

    /// `to = ` the address of the only value of an array map
    pub fn map_value(&mut self, to: Reg, fd: RawFd, name: &str) {
        self.put(0x18, to, 2, 0, fd, format!("{to} = {name}"));
        self.second_half(0);
    }

    /// `to = constant`, on all 64 bits.
    pub fn set_wide(&mut self, to: Reg, constant: u64) {
        let [a, b, c, d, e, f, g, h] = constant.to_le_bytes();
        let low = i32::from_le_bytes([a, b, c, d]);
        self.put(0x18, to, 0, 0, low, format!("{to} = {constant}"));
        self.second_half(i32::from_le_bytes([e, f, g, h]));
    }

    fn second_half(&mut self, constant: i32) {
        self.instructions.push(Instruction {
            code: 0,
            to: 0,
            from: 0,
            offset: 0,
            constant,
        });
    }

    /// Ends the program: the verdict is in `r0`.
    pub fn exit(&mut self) {
        self.put(0x95, Reg::R0, 0, 0, 0, "exit".to_owned());
    }

    /// Puts it together.
    ///
    /// # Errors
    /// A fault of whoever wrote the program.
    pub fn finish(mut self) -> Result<Assembled, AssembleError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for (at, label) in &self.jumps {
            let to = *self
                .labels
                .get(label)
                .ok_or(AssembleError::NoLabel(label))?;
            let distance = to.wrapping_sub(*at + 1).cast_signed();
            self.instructions[*at].offset = i16::try_from(distance)
                .map_err(|_| AssembleError::TooFar(format!("goto {label}")))?;
        }
        let mut listing = String::new();
        for line in &self.lines {
            // Writing to a string does not fail.
            let _ = match line {
                Line::C(text) => writeln!(listing, "            // {text}"),
                Line::Label(name) => writeln!(listing, "{name}:"),
                Line::Instruction(number, text) => writeln!(listing, "{number:6}      {text}"),
            };
        }
        Ok(Assembled {
            instructions: self
                .instructions
                .iter()
                .map(|instruction| instruction.bits())
                .collect(),
            listing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_those_of_the_kernel_s_documentation() {
        let mut a = Assembler::new();
        a.c("return 1;");
        a.set(Reg::R0, 1);
        a.jump_if(Reg::R0, If::NotEqual, 0, "out");
        a.load(Size::U64, Reg::R7, Reg::R6, 8);
        a.store(Size::U32, Reg::R10, -4, Reg::R0);
        a.alu(Alu::Add, Reg::R1, Reg::R2);
        a.label("out");
        a.exit();
        let program = a.finish().unwrap();
        let bytes: Vec<[u8; 8]> = program
            .instructions
            .iter()
            .map(|instruction| instruction.to_le_bytes())
            .collect();
        assert_eq!(
            bytes,
            [
                [0xb7, 0, 0, 0, 1, 0, 0, 0],
                [0x55, 0, 3, 0, 0, 0, 0, 0],
                [0x79, 0x67, 8, 0, 0, 0, 0, 0],
                [0x63, 0x0a, 0xfc, 0xff, 0, 0, 0, 0],
                [0x0f, 0x21, 0, 0, 0, 0, 0, 0],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
            ]
        );
        assert_eq!(
            program.listing,
            "            // return 1;\n     0      r0 = 1\n     1      if r0 != 0 goto out\n     2      \
             r7 = *(u64 *)(r6 + 8)\n     3      *(u32 *)(r10 + -4) = r0\n     4      r1 += r2\nout:\n     \
             5      exit\n"
        );
    }

    #[test]
    fn faults_are_errors() {
        let mut a = Assembler::new();
        a.jump("nowhere");
        assert_eq!(a.finish(), Err(AssembleError::NoLabel("nowhere")));
        let mut a = Assembler::new();
        a.label("here");
        a.label("here");
        assert_eq!(a.finish(), Err(AssembleError::TwoLabels("here")));
        let mut a = Assembler::new();
        a.load(Size::U8, Reg::R1, Reg::R2, 40_000);
        assert!(matches!(a.finish(), Err(AssembleError::TooFar(_))));
    }
}

//! An assembler for eBPF: instructions, labels, nothing else. Encoding: Linux
//! `Documentation/bpf/standardization/instruction-set.rst` (RFC 9669).

use std::os::fd::RawFd;

/// One instruction as the kernel reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A register. R0 holds results, R1 to R5 arguments that calls destroy, R6 to R9 survive calls, R10
/// is the frame pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// Width of a memory access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Width {
    const fn code(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> i16 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }
}

/// Arithmetic on 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Operation {
    Add = 0x00,
    Subtract = 0x10,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Move = 0xb0,
}

/// When to jump; comparisons are unsigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Condition {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    /// Any common bit.
    AnyBit = 0x40,
    NotEqual = 0x50,
    Less = 0xa0,
    LessOrEqual = 0xb0,
}

/// A place in the program, possibly ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

/// Why a program cannot be assembled: a mistake in its text, which tests find.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AssembleError {
    /// A jump to a label that was never placed.
    #[error("a label was never placed")]
    MissingLabel,
    /// A jump over more than 32,767 instructions.
    #[error("a jump is too far")]
    TooFar,
}

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    fn emit(&mut self, code: u8, to: Register, from: Register, offset: i16, immediate: i32) {
        let (to, from) = (to as u8, from as u8);
        let registers =
            if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        self.code.push(Instruction { code, registers, offset, immediate });
    }

    /// A label to be placed later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Jumps to `label` arrive here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `to = to OPERATION value`.
    pub fn with(&mut self, operation: Operation, to: Register, value: i32) {
        self.emit(0x07 | operation as u8, to, Register::R0, 0, value);
    }

    /// `to = to OPERATION from`.
    pub fn with_register(&mut self, operation: Operation, to: Register, from: Register) {
        self.emit(0x0f | operation as u8, to, from, 0, 0);
    }

    /// `to = value`.
    pub fn set(&mut self, to: Register, value: i32) {
        self.with(Operation::Move, to, value);
    }

    /// `to = from`.
    pub fn copy(&mut self, to: Register, from: Register) {
        self.with_register(Operation::Move, to, from);
    }

    /// `to = base + offset`, an address.
    pub fn address(&mut self, to: Register, base: Register, offset: i16) {
        self.copy(to, base);
        self.with(Operation::Add, to, i32::from(offset));
    }

    /// `to` is turned from network byte order, 16 bits wide, into a number.
    pub fn number_from_network(&mut self, to: Register) {
        self.emit(0xdc, to, Register::R0, 0, 16);
    }

    /// `to = *(base + offset)`.
    pub fn load(&mut self, width: Width, to: Register, base: Register, offset: i16) {
        self.emit(0x61 | width.code(), to, base, offset, 0);
    }

    /// `*(base + offset) = from`.
    pub fn store(&mut self, width: Width, base: Register, offset: i16, from: Register) {
        self.emit(0x63 | width.code(), base, from, offset, 0);
    }

    /// `*(base + offset) = value`.
    pub fn store_value(&mut self, width: Width, base: Register, offset: i16, value: i32) {
        self.emit(0x62 | width.code(), base, Register::R0, offset, value);
    }

    /// Goes on at `label`.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.emit(0x05, Register::R0, Register::R0, 0, 0);
    }

    /// Goes on at `label` if `register CONDITION value`.
    pub fn jump_if(&mut self, register: Register, is: Condition, value: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.emit(0x05 | is as u8, register, Register::R0, 0, value);
    }

    /// Goes on at `label` if `register CONDITION other`.
    pub fn jump_if_register(
        &mut self,
        register: Register,
        is: Condition,
        other: Register,
        label: Label,
    ) {
        self.jumps.push((self.code.len(), label));
        self.emit(0x0d | is as u8, register, other, 0, 0);
    }

    /// Calls a helper function of the kernel, by number.
    pub fn call(&mut self, helper: i32) {
        self.emit(0x85, Register::R0, Register::R0, 0, helper);
    }

    /// `to` = the map behind a descriptor of this process.
    pub fn map(&mut self, to: Register, map: RawFd) {
        // Source register 1 says that the immediate is a map's descriptor.
        self.emit(0x18, to, Register::R1, 0, map);
        self.emit(0x00, Register::R0, Register::R0, 0, 0);
    }

    /// Returns R0.
    pub fn exit(&mut self) {
        self.emit(0x95, Register::R0, Register::R0, 0, 0);
    }

    /// The finished program.
    ///
    /// # Errors
    /// When a jump leads nowhere or too far.
    pub fn finish(mut self) -> Result<Vec<Instruction>, AssembleError> {
        for (at, label) in &self.jumps {
            let target = self.labels[label.0].ok_or(AssembleError::MissingLabel)?;
            let distance = target.cast_signed() - at.cast_signed() - 1;
            self.code[*at].offset = i16::try_from(distance).map_err(|_| AssembleError::TooFar)?;
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Register::{R0, R1, R10};

    fn bytes(code: &[Instruction]) -> Vec<[u8; 8]> {
        code.iter()
            .map(|i| {
                let [o0, o1] = i.offset.to_le_bytes();
                let [a, b, c, d] = i.immediate.to_le_bytes();
                [i.code, i.registers, o0, o1, a, b, c, d]
            })
            .collect()
    }

    #[test]
    fn encoding_is_that_of_rfc_9669() {
        let mut program = Assembler::new();
        let end = program.label();
        program.set(R0, -1);
        program.load(Width::Word, R0, R1, 8);
        program.store(Width::Double, R10, -8, R1);
        program.jump_if(R0, Condition::Equal, 5, end);
        program.map(R1, 7);
        program.call(1);
        program.place(end);
        program.exit();
        let expected: [[u8; 8]; 8] = [
            [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0x61, 0x10, 8, 0, 0, 0, 0, 0],
            [0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0],
            [0x15, 0x00, 3, 0, 5, 0, 0, 0],
            [0x18, 0x11, 0, 0, 7, 0, 0, 0],
            [0x00, 0x00, 0, 0, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 1, 0, 0, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes(&program.finish().unwrap()), expected);
    }

    #[test]
    fn a_jump_to_nowhere_is_refused() {
        let mut program = Assembler::new();
        let nowhere = program.label();
        program.jump(nowhere);
        assert_eq!(program.finish(), Err(AssembleError::MissingLabel));
    }
}

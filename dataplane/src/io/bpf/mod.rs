//! eBPF without a compiler or a loader library: programs are assembled here and given to bpf(2).
#![allow(unsafe_code)]

mod assemble;
mod system;

pub use assemble::{
    AssembleError, Assembler, Condition, Instruction, Label, Operation, Register, Width,
};
pub use system::{AttachPoint, BpfError, Link, Map, MapKind, Outcome, Program, ProgramKind};

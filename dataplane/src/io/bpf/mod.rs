//! eBPF without a compiler or a loader library: programs are assembled here and given to bpf(2).
#![allow(unsafe_code)]

mod assemble;
mod map;
mod system;

pub use assemble::{
    AssembleError, Assembler, Condition, Instruction, Label, Operation, Register, Width,
};
pub use map::{Map, MapKind};
pub use system::{Arrival, AttachPoint, BpfError, Link, Outcome, Program, ProgramKind};

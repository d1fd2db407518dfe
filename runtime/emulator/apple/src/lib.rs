//! Runs kernels that Apple's compiler made on the CPU of any machine, to check the emulator: a kernel runs as source in
//! the emulator and as compiled by Apple's compiler, and the results are compared.
//!
//! A [`Library`] gives a kernel's bitcode, [`lower`](lower::lower) turns its text form into a module for this machine, and
//! [`Workshop`] compiles that and has it run by the emulator's scheduler, its memory watched. [`planted`] has defects that
//! the emulator must find.

pub mod lower;
mod metallib;
mod own;
pub mod planted;
mod workshop;

pub use metallib::{Damage, Function, Library};
pub use own::own_module;
pub use workshop::{Failure, Kernel, Llvm, Workshop};

#![doc = include_str!("../README.md")]

mod bound;
mod build;
mod emulator;
mod error;
mod finding;
mod function;
mod launch;
mod launch_check;
mod machine;
mod report;
mod static_check;

pub use cotangent_metal::{Dtype, KernelText, Location, Port, Source, TemplateValue};

pub use bound::{Bound, BoundLaunch, BoundRun, Memory, Object};
pub use build::SAME_BITS;
pub use emulator::Emulator;
pub use error::Error;
pub use finding::{Action, Finding, FindingKind, Side, Thread};
pub use function::FunctionText;
pub use launch::{Buffer, Checks, Launch, Run, Schedule};
pub use static_check::{Complaint, StaticCheck};

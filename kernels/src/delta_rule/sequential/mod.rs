//! Token by token: the reference of the chunked form, the step of generation, kernels for gates of each channel, and what
//! speculative decoding needs of states in between.

mod accept;
mod by_operations;
mod channel_gates;
mod columns;
mod rows;
mod run;
mod states;
mod step;

pub use accept::{AcceptStateOutputs, accept_state};
pub(super) use by_operations::run_steps;
pub use by_operations::{gated_delta_by_channel_steps, gated_delta_steps};
pub use channel_gates::{GatedDeltaByChannelOutputs, gated_delta_by_channel};
pub use states::{GatedDeltaWithStatesOutputs, gated_delta_state, gated_delta_with_states};
pub use step::{GatedDeltaStepOutputs, gated_delta_step};

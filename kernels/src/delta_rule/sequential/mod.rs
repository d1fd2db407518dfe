//! The recurrence token by token: the reference implementation of the chunked form, the step of generation, and the
//! states in between that speculative decoding needs.

mod accept;
mod by_operations;
mod run;
mod states;
mod step;

pub use accept::{AcceptStateInputs, AcceptStateOutputs, accept_state};
pub(super) use by_operations::run_steps;
pub use by_operations::{gated_delta_by_channel_steps, gated_delta_steps};
pub use states::{
    GatedDeltaStateInputs, GatedDeltaWithStatesInputs, GatedDeltaWithStatesOutputs, gated_delta_state,
    gated_delta_with_states,
};
pub use step::{
    GatedDeltaByChannelStepInputs, GatedDeltaByChannelStepOutputs, GatedDeltaStepInputs, GatedDeltaStepOutputs,
    gated_delta_by_channel_step, gated_delta_step,
};

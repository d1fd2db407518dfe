//! The kernels that the models call, for the table of `cargo xtask kernels`. The parity tests hold this list to what runs.

use cotangent::calls;
use cotangent_kernels::{
    attention, attention_gate, causal_conv, cross_entropy, decoded_matrix, delta_rule, expert_rows, gates,
    grouped_linear, low_rank, mrope, rms_norm, rotary, swiglu,
};

calls! {
    "text models":
    attention::attend_in_blocks, attention_gate::fused_attention_gate, causal_conv::fused_causal_conv,
    cross_entropy::label_losses, delta_rule::gated_delta, delta_rule::gated_delta_step, gates::fused_gates,
    low_rank::portable_adapted_linear, mrope::mrope, rms_norm::fused_norm, swiglu::fused_swiglu,
}

calls! { "vision towers": rotary::fused_rotary }

calls! {
    "experts":
    expert_rows::spread_rows, expert_rows::summed_rows, grouped_linear::grouped_product, swiglu::fused_weighted_swiglu,
}

// `decoded_matrix` and `grouped_packed_linear` call these, but not on CPUs, where the parity tests run codes.
calls! { "packed codes": decoded_matrix::decode_affine, grouped_linear::grouped_coded_product }

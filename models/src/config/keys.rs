//! The keys of a `config.json` that do not change what a model computes here, and the report on all other keys that
//! nothing has read.

/// What transformers writes into the configuration of any model: how its Python object behaves, and what older versions
/// kept there for generation (`PreTrainedConfig` of 4.40 to 5.24).
const OF_TRANSFORMERS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
];

/// How weights were drawn and trained, by which program, and tokens that the tokenizer's own files name.
const OF_TRAINING: &[&str] = &[
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "mamba_ssm_dtype",
    "pad_token_id",
    "unsloth_fixed",
    "unsloth_version",
];

/// Parts that are left out: the head of multi-token prediction, the tower of a checkpoint that has none, experts of a
/// dense model, windows of attention that is not windowed.
const OF_ABSENT_PARTS: &[&str] = &[
    "decoder_sparse_step",
    "image_token_id",
    "language_model_only",
    "max_window_layers",
    "mlp_only_layers",
    "moe_intermediate_size",
    "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings",
    "norm_topk_prob",
    "num_experts",
    "num_experts_per_tok",
    "output_router_logits",
    "router_aux_loss_coef",
    "shared_expert_intermediate_size",
    "sliding_window",
    "video_token_id",
    "vision_end_token_id",
    "vision_start_token_id",
];

/// Returns whether a key changes nothing, in any place.
pub(super) fn has_no_effect(key: &str) -> bool {
    [OF_TRANSFORMERS, OF_TRAINING, OF_ABSENT_PARTS].iter().any(|keys| keys.binary_search(&key).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_for_the_search() {
        for keys in [OF_TRANSFORMERS, OF_TRAINING, OF_ABSENT_PARTS] {
            assert!(keys.is_sorted_by(|one, next| one < next), "{keys:?}");
            assert!(keys.iter().all(|key| has_no_effect(key)));
        }
        assert!(!has_no_effect("hidden_size"));
    }
}

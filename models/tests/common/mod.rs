//! A small model of every kind of layer, and a batch for it.

use std::path::Path;

use cotangent::{Dtype, Indices, Plan, Stored};
use cotangent_kernels::Labels;
use cotangent_models::checkpoint::HostTensor;
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Batch, Model};
use cotangent_models::rope::{Positions, Rotary};
use serde_json::{Value, json};

pub const HIDDEN: usize = 64;

/// The configuration of a model with `layers` layers, as `config.json` has it.
pub fn json(layers: usize) -> Value {
    json!({
        "model_type": "qwen3_5_text", "vocab_size": 256, "hidden_size": HIDDEN, "intermediate_size": 128,
        "num_hidden_layers": layers, "full_attention_interval": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25,
            "mrope_section": [2, 1, 1], "mrope_interleaved": true},
    })
}

pub fn config(layers: usize) -> TextConfig {
    TextConfig::from_json(&json(layers), Path::new("config.json")).unwrap()
}

/// A model whose matrices are in `dtype`.
pub fn model(config: &TextConfig, dtype: Dtype) -> Model<Stored> {
    let mut source = |_: &str, plan: &Plan| {
        let values: Vec<f32> = (0..plan.size()).map(|index| (index as f32).sin() * 0.1).collect();
        Ok(HostTensor::from_f32(&plan.shape, &values))
    };
    Model::from_source(config, dtype, &mut source).unwrap()
}

/// One row of `tokens` tokens, all of which count.
pub fn batch(config: &TextConfig, tokens: usize) -> Batch {
    let numbers: Vec<i32> = (0..tokens as i32).map(|token| token % 256).collect();
    Batch {
        tokens: Indices::from_slice(&numbers, &[1, tokens as i32]).unwrap(),
        rotary: Rotary::new(&config.rope, &Positions::text(1, 0, tokens)).unwrap(),
        pictures: None,
        labels: Labels::from_slice(&numbers).unwrap(),
        scale: 1.0 / tokens as f32,
        ahead: None,
        documents: None,
        balance: None,
    }
}

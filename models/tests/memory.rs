//! The bound on memory of a training step, on the real model; alone in its process, because the peak is the process's.

use std::collections::BTreeMap;
use std::path::Path;

use cotangent::random::Key;
use cotangent::{Dtype, Gradients, Indices, Keep, Session, Stored, memory, train_stack};
use cotangent_kernels::Labels;
use cotangent_models::checkpoint::HostTensor;
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Batch, LoraOptions, Model};
use cotangent_models::rope::{Positions, Rotary};
use serde_json::json;

const HIDDEN: usize = 64;
const TOKENS: usize = 512;

fn config(layers: usize) -> TextConfig {
    let json = json!({
        "model_type": "qwen3_5_text", "vocab_size": 256, "hidden_size": HIDDEN, "intermediate_size": 128,
        "num_hidden_layers": layers, "full_attention_interval": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25,
            "mrope_section": [2, 1, 1], "mrope_interleaved": true},
    });
    TextConfig::from_json(&json, Path::new("config.json")).unwrap()
}

fn model(config: &TextConfig) -> Model<Stored> {
    let shapes: BTreeMap<String, Vec<usize>> = config.parameters().into_iter().collect();
    let mut source = |name: &str| {
        let shape = &shapes[name];
        let values: Vec<f32> = (0..shape.iter().product()).map(|index: usize| (index as f32).sin() * 0.1).collect();
        Ok(HostTensor::from_f32(shape, &values))
    };
    Model::from_source(config, Dtype::F32, &mut source).unwrap()
}

/// Peak of one step in bytes, and a block's input with its adapters' gradients.
fn peak_of(layers: usize) -> (usize, usize) {
    let config = config(layers);
    let mut model = model(&config);
    model.add_adapters(&LoraOptions::default(), &Key::new(0).unwrap()).unwrap();
    let trainable = model.adapters_trainable().unwrap();
    let tokens: Vec<i32> = (0..TOKENS as i32).map(|token| token % 256).collect();
    let batch = Batch {
        tokens: Indices::from_slice(&tokens, &[1, TOKENS as i32]).unwrap(),
        rotary: Rotary::new(&config.rope, &Positions::text(1, 0, TOKENS)).unwrap(),
        labels: Labels::from_slice(&tokens).unwrap(),
        scale: 1.0 / TOKENS as f32,
    };
    let mut session = Session::new().unwrap();
    let before = memory::active().unwrap();
    memory::reset_peak().unwrap();
    let mut gradients = Gradients::new();
    train_stack(&mut session, &model, &trainable, &batch, Keep::BlockInputs, &mut gradients).unwrap();
    (memory::peak().unwrap() - before, HIDDEN * TOKENS * 4 + gradients.bytes() / layers)
}

#[test]
fn twelve_more_layers_cost_their_inputs_and_gradients_only() {
    // The first run pays for what is allocated once.
    peak_of(4);
    let (twelve, per_layer) = peak_of(12);
    let (twenty_four, _) = peak_of(24);
    let bound = ((twelve + 12 * per_layer) as f64 * 1.1) as usize;
    println!("peak at 12 layers {twelve} bytes, at 24 layers {twenty_four}, bound {bound}");
    assert!(twenty_four <= bound, "peak at 24 layers {twenty_four} bytes, at 12 {twelve}, bound {bound}");
}

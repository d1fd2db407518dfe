//! The bound on memory of a training step, on the real model; alone in its process and one after the other, because the peak is
//! the process's.

mod common;

use std::path::Path;

use common::{HIDDEN, batch, config, json, model};
use cotangent::random::Key;
use cotangent::{Dtype, Gradients, Indices, Keep, Session, memory, train_stack};
use cotangent_kernels::{IGNORED, Labels};
use cotangent_models::config::TextConfig;
use cotangent_models::images::{Grid, Patches};
use cotangent_models::qwen35::{Batch, LoraOptions, LoraTargets};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::{Pictures, row_positions};
use serde_json::json;

/// The kind of block that is counted: what it reads, and how the model is called.
struct Kind {
    name: &'static str,
    /// Bytes of a block's input.
    input: usize,
    /// The layers that are adapted, which are in these blocks and nowhere else.
    targets: &'static [&'static str],
    /// A model with the given number of blocks.
    config: fn(usize) -> TextConfig,
    batch: fn(&TextConfig) -> Batch,
}

const TOKENS: usize = 512;

/// The tokens for layers of experts, which take longer.
const FEW_TOKENS: usize = 64;

/// Patches on each side of the picture, and the width of the tower.
const SIDE: usize = 16;
const TOWER: usize = 32;

fn of_experts(layers: usize) -> TextConfig {
    let mut json = json(layers);
    json.as_object_mut().unwrap().remove("intermediate_size");
    json["model_type"] = "qwen3_5_moe_text".into();
    for (key, value) in [
        ("num_experts", 8),
        ("num_experts_per_tok", 2),
        ("moe_intermediate_size", 64),
        ("shared_expert_intermediate_size", 64),
    ] {
        json[key] = value.into();
    }
    TextConfig::from_json(&json, Path::new("config.json")).unwrap()
}

fn with_tower(depth: usize) -> TextConfig {
    let mut json = json(1);
    for (key, token) in
        [("vision_start_token_id", 250), ("vision_end_token_id", 251), ("image_token_id", 252), ("video_token_id", 253)]
    {
        json[key] = token.into();
    }
    json["vision_config"] = json!({
        "depth": depth, "hidden_size": TOWER, "intermediate_size": 64, "num_heads": 2, "patch_size": 4,
        "temporal_patch_size": 2, "spatial_merge_size": 2, "num_position_embeddings": 36, "out_hidden_size": HIDDEN,
    });
    TextConfig::from_json_with_vision(&json, Path::new("config.json")).unwrap()
}

/// A picture, and two words after it.
fn of_picture(config: &TextConfig) -> Batch {
    let vision = config.vision.as_ref().unwrap();
    let grid = Grid { frames: 1, height: SIDE, width: SIDE };
    let slots = grid.tokens(vision.spatial_merge_size);
    let tokens: Vec<u32> = vec![vision.image_token; slots].into_iter().chain([5, 6]).collect();
    let positions = row_positions(vision, &tokens, &[grid]).unwrap().tokens;
    let values = (0..grid.patches() * vision.patch_length()).map(|index| (index as f32).cos()).collect();
    let is_slot: Vec<bool> = tokens.iter().map(|token| *token == vision.image_token).collect();
    let width = tokens.len();
    let ids: Vec<i32> = tokens.into_iter().map(u32::cast_signed).collect();
    let labels: Vec<i32> = (0..width).map(|place| if place < slots { IGNORED } else { 7 }).collect();
    Batch {
        tokens: Indices::from_slice(&ids, &[1, width as i32]).unwrap(),
        rotary: Rotary::new(&config.rope, &Positions::from_rows(&[&positions], width)).unwrap(),
        pictures: Some(Pictures::new(vision, &is_slot, [1, width], &[Patches { values, grid }]).unwrap()),
        labels: Labels::from_slice(&labels).unwrap(),
        scale: 0.5,
        ahead: None,
        documents: None,
        balance: None,
    }
}

impl Kind {
    /// Peak of one step in bytes, and a block's input with its adapters' gradients.
    fn peak_of(&self, blocks: usize) -> (usize, usize) {
        let config = (self.config)(blocks);
        let mut model = model(&config, Dtype::F32);
        let targets = LoraTargets::Patterns(self.targets.iter().map(|target| (*target).to_owned()).collect());
        model.add_adapters(&LoraOptions { targets, ..LoraOptions::default() }, &Key::new(0).unwrap()).unwrap();
        let trainable = model.adapters_trainable().unwrap();
        let batch = (self.batch)(&config);
        let mut session = Session::new().unwrap();
        let before = memory::active().unwrap();
        memory::reset_peak().unwrap();
        let mut gradients = Gradients::new();
        train_stack(&mut session, &model, &trainable, &batch, Keep::BlockInputs, &mut gradients).unwrap();
        (memory::peak().unwrap() - before, self.input + gradients.bytes() / blocks)
    }
}

#[test]
fn twelve_more_blocks_cost_their_inputs_and_gradients_only() {
    let kinds = [
        Kind {
            name: "dense layers",
            input: HIDDEN * TOKENS * 4,
            targets: &["attention", "linear_attention", "mlp"],
            config,
            batch: |config| batch(config, TOKENS),
        },
        Kind {
            name: "layers of experts",
            input: HIDDEN * FEW_TOKENS * 4,
            targets: &["attention", "linear_attention", "mlp", "experts"],
            config: of_experts,
            batch: |config| batch(config, FEW_TOKENS),
        },
        Kind {
            name: "blocks of the vision tower",
            input: SIDE * SIDE * TOWER * 4,
            targets: &["vision"],
            config: with_tower,
            batch: of_picture,
        },
    ];
    // The first run also allocates what is allocated only once.
    kinds[0].peak_of(4);
    for kind in kinds {
        let (twelve, per_block) = kind.peak_of(12);
        let (twenty_four, _) = kind.peak_of(24);
        let bound = ((twelve + 12 * per_block) as f64 * 1.1) as usize;
        let found = format!("{}: peak at 12 {twelve} bytes, at 24 {twenty_four}, bound {bound}", kind.name);
        println!("{found}");
        assert!(twenty_four <= bound, "{found}");
    }
}

//! Tests with checkpoints that transformers wrote.

use super::*;
use crate::config::TextConfig;
use crate::qwen35::Model;
use cotangent::Plan;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/fixtures").join(name)
}

/// Checkpoints that transformers wrote, in the layouts it publishes.
#[test]
fn the_reference_checkpoints_are_read() {
    for (name, dtype, skipped) in [
        ("dense-untied", Dtype::BF16, Skipped::default()),
        ("dense-tied", Dtype::F32, Skipped::default()),
        ("moe", Dtype::BF16, Skipped::default()),
        ("moe-per-expert", Dtype::BF16, Skipped::default()),
        ("qwen3-vl", Dtype::BF16, Skipped { vision: 57, ..Skipped::default() }),
    ] {
        let dir = fixture(name);
        let config = TextConfig::load(&dir).unwrap();
        let parameters = Plan::all(&Model::planned(&config, cotangent::Dtype::F32));
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let plan = LoadPlan::new(&checkpoint, parameters.clone()).unwrap();
        assert_eq!(plan.layout(), Layout::HuggingFace);
        assert_eq!(plan.skipped(), skipped, "{name}");
        assert_eq!(plan.read("embed_tokens.weight").unwrap().dtype, dtype, "{name}");
        for (parameter, planned) in &parameters {
            let tensor = plan.read(parameter).unwrap();
            assert_eq!(tensor.shape, planned.shape, "{name} {parameter}");
            assert!(tensor.to_f32().unwrap().iter().all(|value| value.is_finite()), "{name} {parameter}");
        }
    }
}

/// The second stores each expert by itself.
#[test]
fn two_layouts_of_the_same_experts_are_the_same_model() {
    let fingerprints = ["moe", "moe-per-expert"].map(|name| {
        let (_, _, findings) = Model::load(&fixture(name), cotangent::Dtype::F32).unwrap();
        findings.fingerprint
    });
    assert_eq!(fingerprints[0], fingerprints[1]);
}

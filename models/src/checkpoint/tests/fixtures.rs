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

#[test]
fn the_reference_checkpoints_of_other_models_are_refused_by_name() {
    for (name, expected) in [
        ("moe", "`model_type`: `qwen3_5_moe_text`, a mixture-of-experts model, is not supported"),
        ("moe-per-expert", "`model_type`: `qwen3_5_moe_text`, a mixture-of-experts model, is not supported"),
    ] {
        let error = TextConfig::load(&fixture(name)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

use super::*;
use crate::config::TextConfig;

/// Checkpoints that transformers wrote, in the layouts it publishes.
#[test]
fn the_reference_checkpoints_are_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/fixtures");
    for (name, dtype, skipped) in
        [("dense-untied", Dtype::BF16, Skipped::default()), ("dense-tied", Dtype::F32, Skipped::default())]
    {
        let dir = fixtures.join(name);
        let parameters = TextConfig::load(&dir).unwrap().parameters();
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let plan = LoadPlan::new(&checkpoint, &parameters).unwrap();
        assert_eq!(plan.layout(), Layout::HuggingFace);
        assert_eq!(plan.skipped(), skipped, "{name}");
        assert_eq!(plan.read("embed_tokens.weight").unwrap().dtype, dtype, "{name}");
        for (parameter, shape) in &parameters {
            let tensor = plan.read(parameter).unwrap();
            assert_eq!(&tensor.shape, shape, "{name} {parameter}");
            assert!(tensor.to_f32().unwrap().iter().all(|value| value.is_finite()), "{name} {parameter}");
        }
    }
}

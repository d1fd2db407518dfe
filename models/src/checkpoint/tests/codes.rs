//! Packed codes that are not the ones which the configuration names.

use super::*;
use crate::config::Quantization;
use crate::linear::Linear;
use cotangent::{Mode, Parameters, Plan, Planned};

/// A model of one matrix.
#[derive(Parameters)]
struct Toy<M: Mode> {
    proj: Linear<M>,
}

const ROWS: usize = 3;

/// The result of [`Checkpoint::plan_codes`] for a matrix of `columns` columns that is stored as `tensors` (part, dtype,
/// columns).
fn planned(
    columns: usize,
    tensors: &[(&str, &str, usize)],
    quantization: Value,
) -> Result<Vec<(String, Plan)>, String> {
    let dir = tempfile::tempdir().unwrap();
    let (mut header, mut end) = (json!({}), 0);
    for (part, dtype, columns) in tensors {
        let begin = end;
        end += ROWS * columns * if *dtype == "U8" { 1 } else { 4 };
        header[format!("language_model.model.proj.{part}")] =
            json!({"dtype": dtype, "shape": [ROWS, columns], "data_offsets": [begin, end]});
    }
    fs::write(dir.path().join("model.safetensors"), file_of(&header.to_string(), &vec![0; end])).unwrap();
    let config = json!({ "quantization": quantization });
    let quantization = Quantization::from_json(&config, Path::new("config.json")).unwrap();
    let mut toy = Toy { proj: Linear::<Planned>::planned(ROWS, columns, cotangent::Dtype::F32) };
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    match checkpoint.plan_codes(&mut toy, quantization.as_ref()) {
        Ok(()) => Ok(Plan::all(&toy)),
        error => Err(message(error, dir.path())),
    }
}

const WORDS: (&str, &str, usize) = ("weight", "U32", 8);
const SCALES: (&str, &str, usize) = ("scales", "F32", 1);
const BIASES: (&str, &str, usize) = ("biases", "F32", 1);

#[test]
fn scales_say_which_matrices_are_codes_and_the_configuration_how() {
    let stored = [WORDS, SCALES, BIASES];
    let proj = |entry: Value| json!({"bits": 8, "mode": "mxfp8", "language_model.model.proj": entry});
    for quantization in [
        json!({"group_size": 64, "bits": 4}),
        json!({"group_size": null, "bits": 4, "mode": "affine"}),
        // An entry without a mode means affine, whatever the top level says.
        proj(json!({"bits": 4})),
        proj(json!({"group_size": null, "bits": 4})),
        json!({"group_size": 64, "bits": 4, "language_model.model.proj": true, "mtp.fc": {"bits": 8}}),
    ] {
        let plans = planned(64, &stored, quantization.clone()).unwrap();
        let shapes: Vec<(&str, &[usize])> = plans.iter().map(|(name, plan)| (name.as_str(), &plan.shape[..])).collect();
        let expected: [(&str, &[usize]); 3] =
            [("proj.weight", &[ROWS, 8]), ("proj.scales", &[ROWS, 1]), ("proj.biases", &[ROWS, 1])];
        assert_eq!(shapes, expected, "{quantization}");
    }
    let floats = planned(64, &[("weight", "U32", 16), ("scales", "U8", 2)], json!({"mode": "mxfp8"})).unwrap();
    assert_eq!(floats[1].1.dtype, cotangent::Dtype::U8);
    // The module is dense, whether the configuration says so or not.
    for entry in [json!(false), json!(true), json!({"bits": 4})] {
        let plans = planned(64, &[("weight", "F32", 64)], json!({"bits": 4, "language_model.model.proj": entry}));
        assert_eq!(plans.unwrap()[0].1.shape, [ROWS, 64]);
    }
}

#[test]
fn codes_that_do_not_fit_the_configuration_are_one_sentence() {
    let affine = || json!({"group_size": 64, "bits": 4});
    let wide = ("weight", "U32", 16);
    for (columns, stored, quantization, expected) in [
        (
            64,
            &[wide, SCALES, BIASES][..],
            affine(),
            "proj.weight`: holds U32 [3, 16] with scales [3, 1], expected U32 [3, 8] with scales [3, 1], as `config.json` says \
             codes of 4 bits in groups of 64 (affine)",
        ),
        (
            64,
            &[WORDS, ("scales", "F32", 2), BIASES],
            affine(),
            "with scales [3, 2], expected U32 [3, 8] with scales [3, 1]",
        ),
        (64, &[("weight", "F32", 64), SCALES, BIASES], affine(), "holds F32 [3, 64] with scales"),
        (64, &[WORDS], affine(), "proj.weight`: holds packed codes, but `proj.scales` is missing"),
        (64, &[SCALES, BIASES], affine(), "proj.scales`: is there without `proj.weight`"),
        (64, &[WORDS, SCALES], affine(), "proj.scales`: has no `proj.biases` beside it, expected for codes of 4 bits"),
        (64, &[WORDS, ("scales", "U8", 1), BIASES], affine(), "proj.scales`: is U8, expected floats"),
        (
            64,
            &[wide, ("scales", "U8", 2), ("biases", "F32", 2)],
            json!({"mode": "mxfp8"}),
            "proj.biases`: is in the checkpoint, but codes of 8 bits in groups of 32 (mxfp8) have no biases",
        ),
        (96, &[WORDS, SCALES, BIASES], affine(), "is a matrix of 96 columns, expected a multiple of 64"),
        (
            64,
            &[WORDS, SCALES, BIASES],
            Value::Null,
            "proj.scales`: belongs to a quantized model, but `config.json` has no",
        ),
        (
            64,
            &[WORDS, SCALES, BIASES],
            json!({"bits": 4, "language_model.model.proj": false}),
            "proj.scales`: is the scales of a module that `quantization` of `config.json` calls dense",
        ),
        (
            64,
            &[WORDS, ("scales", "U8", 4), ("global_scale", "F32", 1)],
            json!({"mode": "nvfp4"}),
            "proj.global_scale`: is a scale of a whole matrix, which is not supported",
        ),
    ] {
        let found = planned(columns, stored, quantization).unwrap_err();
        assert!(found.contains(expected), "{found}\nshould say: {expected}");
    }
}

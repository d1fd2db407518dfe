//! The program quantizes a checkpoint as mlx-lm does, or leaves nothing behind.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cotangent_models::checkpoint::{Checkpoint, HostTensor, SafetensorsFile, write_safetensors};
use serde_json::{Value, json};

use program::{cotangent, workplace};

fn reference(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference").join(path)
}

/// Exit code, and all output.
fn run(dir: &Path, arguments: &str) -> (Option<i32>, String) {
    let output = cotangent(dir, arguments).output().unwrap();
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    (output.status.code(), text)
}

fn json_of(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A small checkpoint with a vision tower, which names bfloat16, at `dir`.
fn write_source(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for file in ["model.safetensors", "preprocessor_config.json"] {
        fs::copy(reference("fixtures/vlm").join(file), dir.join(file)).unwrap();
    }
    let mut config = json_of(reference("fixtures/vlm/config.json"));
    config["dtype"] = json!("bfloat16");
    config["text_config"]["dtype"] = json!("bfloat16");
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// The files are those of `tests/reference/make_converted.py`.
#[test]
fn a_checkpoint_is_quantized_as_mlx_lm_does_it() {
    let workplace = workplace();
    let dir = workplace.path();
    write_source(&dir.join("source"));
    let (code, text) = run(dir, "convert --model source --output ours --q-group-size 32 --quant-predicate mixed_3_6");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Wrote `ours`: 17 matrices in codes mixed by mixed_3_6 in groups of 32; "), "{text}");

    let ours = Checkpoint::open(dir.join("ours")).unwrap();
    let theirs = Checkpoint::open(reference("converted")).unwrap();
    // mlx-lm leaves the tower out.
    let of_text: Vec<&str> = ours.names().filter(|name| !name.starts_with("vision_tower.")).collect();
    assert_eq!(of_text, theirs.names().collect::<Vec<_>>());
    for name in of_text {
        assert_eq!(ours.read(name).unwrap(), theirs.read(name).unwrap(), "{name}");
    }
    let embedding = ours.get("vision_tower.patch_embed.proj.weight").unwrap();
    assert_eq!(embedding.shape, [32, 2, 4, 4, 3]);

    let (found, expected) = (json_of(dir.join("ours/config.json")), json_of(reference("converted/config.json")));
    assert_eq!(found["quantization"], expected["quantization"]);
    assert_eq!(found["quantization_config"], expected["quantization_config"]);
    // mlx-lm calls the type of a rope `type`, and reads both names.
    let text = |config: &Value| {
        let mut text = config["text_config"].clone();
        let rope = text["rope_parameters"].as_object_mut().unwrap();
        let kind = rope.remove("rope_type").or_else(|| rope.remove("type"));
        (text, kind)
    };
    assert_eq!(text(&found), text(&expected));
    assert!(found["vision_config"].is_object());
    assert!(dir.join("ours/preprocessor_config.json").exists());
    let mode = fs::metadata(dir.join("ours")).unwrap().permissions().mode();
    assert_eq!(mode & 0o700, 0o700);

    // The converted model can be used as a base model.
    let (code, text) = run(dir, "audit ours --lora --batch-size 1 --tokens 4");
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_cannot_be_converted_leaves_nothing_behind() {
    let workplace = workplace();
    let dir = workplace.path();
    write_source(&dir.join("source"));
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    write_source(&dir.join("short"));
    let weights = SafetensorsFile::open(&dir.join("source/model.safetensors")).unwrap();
    let mut tensors: BTreeMap<String, HostTensor> =
        weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
    tensors.remove("model.language_model.norm.weight");
    write_safetensors(&dir.join("short/model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    let before = names(dir);
    let convert = |more: &str| format!("convert --model source --output out {more}");
    for (arguments, code, expected) in [
        (convert("--q-bits 7"), 1, "error: the mode `affine` has no codes of 7 bits, only 2, 3, 4, 5, 6, 8"),
        (convert("--q-bits 0"), 2, "expected a whole number of at least 1"),
        (convert("--q-mode int4"), 2, "[possible values: affine, mxfp4, mxfp8, nvfp4]"),
        (convert("--q-bits 4 --quant-predicate mixed_4_6"), 2, "cannot be used with"),
        (convert("--q-mode mxfp4 --quant-predicate mixed_4_6"), 1, "mixes widths of `affine` codes, found `mxfp4`"),
        (convert("--quantize --mlx-path out"), 2, "`--mlx-path` is here: --output DIR"),
        ("convert --model source --output data".into(), 1, "error: `data`: is not empty, expected a folder to be made"),
        ("convert --model source --output file".into(), 1, "error: `file`: found a file, expected a folder"),
        ("convert --model short --output out".into(), 1, "missing: `norm.weight`, expected [64]"),
        (
            format!("convert --output out --model {}", reference("quantized/q8-dense").display()),
            1,
            "config.json`: says that the model is quantized already\nhelp: give the original checkpoint",
        ),
    ] {
        let (found, text) = run(dir, &arguments);
        assert!(text.contains(expected), "`{arguments}`: expected `{expected}` in\n{text}");
        assert_eq!(found, Some(code), "`{arguments}`\n{text}");
        assert_eq!(names(dir), before, "`{arguments}` left something behind");
    }
}

//! Pictures: from data through training to an answer, on a tiny model that sees.

mod workplace;

use std::fs;

use cotangent_trainer::data::{ChatFormat, DataOptions, Dataset, Example};
use serde_json::{Value, json};
use tempfile::TempDir;
use workplace::{cotangent, losses_of, row, with, workplace_with};

const VISION_START: u32 = 250;
const PAD: u32 = 252;

/// A folder with the checkpoint of Qwen3.5.
fn workplace() -> TempDir {
    workplace_with("fixtures/vlm")
}

fn load(dir: &TempDir, rows: &[Value], max_seq_length: usize) -> Result<Vec<Example>, String> {
    let file = dir.path().join("rows.jsonl");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    let format = ChatFormat::load(&dir.path().join("model")).unwrap();
    let loaded = Dataset::load(&file, &format, &DataOptions::new(max_seq_length));
    loaded.map(|data| data.examples).map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), "DIR"))
}

#[test]
fn every_form_of_data_puts_a_picture_in_the_same_place() {
    let dir = workplace();
    let image = json!({"type": "image"});
    let named = |key: &str, value: Value| {
        let mut part = image.clone();
        part[key] = value;
        part
    };
    let text = json!({"type": "text", "text": "What?"});
    let bytes = fs::read(dir.path().join("rgb.png")).unwrap();
    let encoded = base64(&bytes);
    let address = format!("data:image/png;base64,{encoded}");
    let absolute = format!("file://{}", dir.path().join("rgb.png").display());
    let rows = [
        row(json!([named("image", "rgb.png".into()), text])),
        row(json!([named("path", "rgb.png".into()), text])),
        row(json!([named("url", absolute.into()), text])),
        row(json!([named("base64", encoded.clone().into()), text])),
        row(json!([{"type": "image_url", "image_url": {"url": address}}, text])),
        with(row(json!([image, text])), "images", json!(["rgb.png"])),
        with(row(json!([image, text])), "image", json!({"path": "rgb.png"})),
        with(row("<image>What?".into()), "images", json!([{"bytes": encoded}])),
        with(row("What?".into()), "images", json!(["rgb.png"])),
    ];
    let examples = load(&dir, &rows, 2048).unwrap();
    assert_eq!(examples.len(), rows.len());
    // 30 by 22 pixels become 32 by 24: 8 by 6 patches of 4 pixels, in 12 groups.
    let first = &examples[0];
    let picture = &first.pictures[0];
    assert_eq!((picture.grid.frames, picture.grid.height, picture.grid.width), (1, 8, 6));
    assert_eq!(picture.tokens.len(), 12);
    assert!(first.tokens[picture.tokens.clone()].iter().all(|token| *token == PAD));
    assert_eq!(first.tokens.iter().filter(|token| **token == PAD).count(), 12);
    for example in &examples {
        assert_eq!((&example.tokens, &example.is_target), (&first.tokens, &first.is_target));
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let word = (0..3).fold(0u32, |word, i| word << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        (0..=chunk.len()).map(|i| ALPHABET[(word >> (18 - 6 * i)) as usize & 63] as char).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn pictures_are_no_targets_and_no_cut_goes_through_one() {
    let dir = workplace();
    // The assistant shows a picture too.
    let shown = json!({"messages": [
        {"role": "user", "content": "Draw."},
        {"role": "assistant", "content": [{"type": "text", "text": "Here: "}, {"type": "image", "image": "rgb.png"}]},
    ]});
    let whole = load(&dir, std::slice::from_ref(&shown), 2048).unwrap().remove(0);
    let marks = 250..=252;
    let learned = whole.tokens.iter().zip(&whole.is_target).filter(|(_, is_target)| **is_target);
    assert!(learned.clone().count() > 6 && learned.clone().all(|(token, _)| !marks.contains(token)));

    let picture = whole.pictures[0].tokens.clone();
    assert_eq!(whole.tokens[picture.start - 1], VISION_START);
    for limit in picture.start..picture.end {
        let cut = load(&dir, std::slice::from_ref(&shown), limit).unwrap().remove(0);
        assert_eq!((cut.tokens.len(), cut.pictures.len()), (picture.start - 1, 0), "{limit}");
    }
    let kept = load(&dir, std::slice::from_ref(&shown), picture.end).unwrap().remove(0);
    assert_eq!((kept.tokens.len(), kept.pictures.len()), (picture.end, 1));
}

#[test]
fn what_is_wrong_with_a_picture_is_said_with_its_line() {
    let dir = workplace();
    let image = |source: &str| row(json!([{"type": "image", "image": source}, {"type": "text", "text": "What?"}]));
    let two_marks = with(row("<image> and <image>".into()), "images", json!(["rgb.png"]));
    let mut bomb = fs::read(dir.path().join("turned6.jpg")).unwrap();
    let header = bomb.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    bomb[header + 5..header + 9].copy_from_slice(&[0xc3, 0x50, 0xea, 0x60]);
    fs::write(dir.path().join("bomb.jpg"), bomb).unwrap();
    let strip = image::strip();
    fs::write(dir.path().join("strip.png"), strip).unwrap();
    for (bad, expected) in [
        (image("text.png"), "`DIR/text.png`: found text, expected a picture\nhelp: give the file itself"),
        (image("absent.png"), "`DIR/absent.png`: No such file or directory (os error 2)"),
        (
            image("bomb.jpg"),
            "`DIR/bomb.jpg`: found 60000 by 50000 pixels, expected at most 178956970 in all\n\
             help: shrink the picture: a model sees far fewer",
        ),
        (
            image("strip.png"),
            "`DIR/strip.png`: 1 by 300 pixels: one side is more than 200 times the other\nhelp: crop the picture",
        ),
        (
            image("https://example.org/a.png"),
            "`messages[0].content[0].image`: found an address on the web, expected a file\n\
             help: fetch the picture, and write its path",
        ),
        (two_marks, "`images`: found 1 picture for 2 places in the messages, expected as many"),
        (
            row(json!([{"type": "image"}])),
            "`messages`: found a part for a picture that names none, and no `images` beside the messages",
        ),
        (row("<|image_pad|>".into()), "found more marks for pictures in the text than pictures"),
        (
            row(json!([{"type": "video", "video": "a.mp4"}])),
            "`messages[0].content[0].video`: found the file of a video, expected a list of its frames\n\
             help: write some of its frames as pictures, two a second, and list them with `\"fps\": 2`",
        ),
    ] {
        let message = load(&dir, &[image("rgb.png"), bad], 2048).unwrap_err();
        assert_eq!(message, format!("`DIR/rows.jsonl`, line 2: {expected}"));
    }
}

mod image {
    /// A PNG file of one column of 300 grey pixels.
    pub fn strip() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 300);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&[7; 300]).unwrap();
        bytes
    }
}

#[test]
fn without_settings_of_its_processor_a_checkpoint_reads_no_pictures() {
    let dir = workplace();
    fs::remove_file(dir.path().join("model/preprocessor_config.json")).unwrap();
    let message = load(&dir, &[with(row("What?".into()), "images", json!(["rgb.png"]))], 2048).unwrap_err();
    assert!(
        message.contains("line 1: found a picture, and `DIR/model`: found neither `preprocessor_config.json`"),
        "{message}"
    );
    // Rows of text can still be read.
    assert_eq!(load(&dir, &[row("What?".into())], 2048).unwrap().len(), 1);
}

/// Rows without a picture, with one, and with two of other sizes, in batches of two.
#[test]
fn a_model_that_sees_trains_answers_and_is_evaluated() {
    let dir = workplace();
    let look = |names: &[&str]| with(row("What?".into()), "images", json!(names));
    let rows = [row("Who?".into()), look(&["rgb.png"]), look(&["turned6.jpg", "rgb.png"]), row("Where?".into())];
    fs::create_dir(dir.path().join("data")).unwrap();
    for file in ["train.jsonl", "valid.jsonl"] {
        // The path is relative to the folder of the data.
        let lines = rows
            .each_ref()
            .map(|row| row.to_string().replace("rgb.png", "../rgb.png").replace("turned6", "../turned6"));
        fs::write(dir.path().join("data").join(file), lines.join("\n")).unwrap();
    }
    let trained = cotangent(
        &dir,
        &[
            "train",
            "--model",
            "model",
            "--data",
            "data",
            "--output",
            "out",
            "--iters",
            "12",
            "--batch-size",
            "2",
            "--learning-rate",
            "5e-3",
            "--steps-per-report",
            "12",
            "--steps-per-eval",
            "12",
            "--seed",
            "3",
        ],
    );
    let losses: Vec<f64> =
        trained.lines().filter_map(|line| line.split_once("Val loss ")?.1.split(',').next()?.parse().ok()).collect();
    assert!(losses.len() == 2 && losses[1] < 0.7 * losses[0], "{trained}");
    assert!(trained.contains("Left out of the checkpoint: 0 tensors of vision, 2 of"), "{trained}");
    let config = fs::read_to_string(dir.path().join("out/adapter_config.json")).unwrap();
    for adapted in ["vision_tower.blocks.1.attn.qkv", "language_model.model.layers.0.mlp.up_proj"] {
        assert!(config.contains(adapted), "{config}");
    }
    assert!(!config.contains("merger"), "{config}");

    let audited = cotangent(&dir, &["audit", "model", "--adapter-path", "out"]);
    assert!(audited.contains("visual.blocks 0-1") && audited.contains("with 2 pictures"), "{audited}");

    let data = ["--data", "data/valid.jsonl", "--batch-size", "2"];
    let of = |more: &[&str]| cotangent(&dir, &[&["evaluate", "--model", "model"], &data[..], more].concat());
    let loss = |text: String| -> f64 { text.split_whitespace().nth(2).unwrap().trim_end_matches(',').parse().unwrap() };
    let (before, after) = (loss(of(&[])), loss(of(&["--adapter-path", "out"])));
    assert!((before - losses[0]).abs() < 2e-3 && (after - losses[1]).abs() < 2e-3, "{before} {after} {losses:?}");

    let ask = |images: &[&str], more: &[&str]| {
        let images: Vec<&str> = images.iter().flat_map(|image| ["--image", image]).collect();
        let fixed = ["generate", "--model", "model", "--prompt", "What?", "--max-tokens", "6"];
        cotangent(&dir, &[&fixed[..], more, &images].concat())
    };
    assert_ne!(ask(&["rgb.png"], &[]), ask(&["turned6.jpg"], &[]), "the picture changes what is said");
    assert_eq!(ask(&["rgb.png"], &["--adapter-path", "out"]), "a cat\n");
    assert_ne!(ask(&["rgb.png"], &["--max-pixels", "128"]), ask(&["rgb.png"], &[]), "it is seen smaller");
}

/// Only the tower trains, also in steps in which no row has a picture; such steps change nothing.
#[test]
fn a_tower_trains_alone() {
    let dir = workplace();
    let pictured = with(row("What is this?".into()), "images", json!(["rgb.png"]));
    let rows = [row("Who?".into()), pictured].map(|row| row.to_string());
    fs::write(dir.path().join("train.jsonl"), rows.join("\n")).unwrap();
    let trained = cotangent(
        &dir,
        &[
            "train",
            "--model",
            "model",
            "--data",
            "train.jsonl",
            "--output",
            "out",
            "--iters",
            "8",
            "--batch-size",
            "1",
            "--learning-rate",
            "1e-2",
            "--steps-per-report",
            "2",
            "--target",
            "vision",
        ],
    );
    let losses = losses_of(&trained);
    assert!(losses.len() == 4 && losses[3] < losses[0], "{trained}");
}

/// Qwen3-VL, its tower frozen, adapters on the text, five steps.
#[test]
fn a_frozen_tower_with_features_for_the_first_layers_trains_the_text() {
    let dir = workplace_with("fixtures/qwen3-vl");
    let rows = ["rgb.png", "turned6.jpg"].map(|name| with(row("What?".into()), "images", json!([name])).to_string());
    fs::write(dir.path().join("train.jsonl"), rows.join("\n")).unwrap();
    let trained = cotangent(
        &dir,
        &[
            "train",
            "--model",
            "model",
            "--data",
            "train.jsonl",
            "--output",
            "out",
            "--iters",
            "5",
            "--batch-size",
            "2",
            "--learning-rate",
            "1e-2",
            "--steps-per-report",
            "1",
            "--target",
            "attention,mlp",
            "--rank",
            "4",
        ],
    );
    let losses = losses_of(&trained);
    assert!(losses.len() == 5 && losses[4] < 0.9 * losses[0], "{trained}");
    let config = fs::read_to_string(dir.path().join("out/adapter_config.json")).unwrap();
    assert!(!config.contains("vision_tower") && config.contains("layers.2.mlp.down_proj"), "{config}");
}

/// The settings of the report that began this project, on bases of 8 bits that see: rank 16, two rows a batch, four batches, turns
/// before the one with the picture. The base of Qwen3.5 is converted here, its tower stays in floats.
#[test]
fn bases_of_8_bits_learn_from_pictures() {
    for (fixture, converts) in [("quantized/q8-qwen3-vl", false), ("fixtures/vlm", true)] {
        let dir = workplace_with(fixture);
        let rows = ["rgb.png", "turned6.jpg"].map(|name| {
            let turn = |role: &str, content: Value| json!({"role": role, "content": content});
            let picture = json!([{"type": "image", "image": name}, {"type": "text", "text": "What?"}]);
            let turns =
                [("user", "Hi.".into()), ("assistant", "Hi.".into()), ("user", picture), ("assistant", "a cat".into())];
            json!({"messages": turns.map(|(role, content)| turn(role, content))}).to_string()
        });
        fs::write(dir.path().join("train.jsonl"), rows.join("\n")).unwrap();
        let base = if converts { "q8" } else { "model" };
        if converts {
            cotangent(
                &dir,
                &["convert", "--model", "model", "--output", base, "--q-bits", "8", "--q-group-size", "32"],
            );
        }
        let fixed = ["train", "--model", base, "--data", "train.jsonl", "--output", "out", "--iters", "3"];
        let batches = ["--batch-size", "2", "--grad-accumulation-steps", "4", "--max-seq-length", "2048"];
        let steps = ["--rank", "16", "--learning-rate", "1e-3", "--steps-per-report", "1"];
        let trained = cotangent(&dir, &[&fixed[..], &batches, &steps].concat());
        let losses = losses_of(&trained);
        assert!(losses.len() == 3 && losses[2] < losses[0], "{fixture}: {trained}");
        let config = fs::read_to_string(dir.path().join(base).join("config.json")).unwrap();
        assert!(config.contains("\"bits\": 8") && config.contains("vision_config"), "{fixture}: {config}");
        let adapted = fs::read_to_string(dir.path().join("out/adapter_config.json")).unwrap();
        assert!(adapted.contains("q_proj") && adapted.contains("linear_fc1"), "{fixture}: {adapted}");
    }
}

//! Videos: tokens, positions, patches and features are those of transformers, and what is wrong with one is said.

mod workplace;

use std::fs;
use std::path::Path;

use cotangent::{Dtype, Infer, Session, Tensor};
use cotangent_models::checkpoint::SafetensorsFile;
use cotangent_models::images::Patches;
use cotangent_models::qwen35::{Batch, Model};
use cotangent_models::rope::Positions;
use cotangent_models::vision::row_positions;
use cotangent_trainer::data::{ChatFormat, DataOptions, Dataset, Example};
use cotangent_trainer::training::BatchMaker;
use serde_json::{Value, json};
use tempfile::TempDir;
use workplace::{cotangent, reference, row, workplace_with};

const FOLDER: &str = "fixtures/vlm-video";

fn stored() -> SafetensorsFile {
    SafetensorsFile::open(&reference(FOLDER).join("reference.safetensors")).unwrap()
}

fn integers(name: &str) -> Vec<i32> {
    let bytes = stored().read(name).unwrap().bytes;
    bytes.as_chunks::<4>().0.iter().copied().map(i32::from_le_bytes).collect()
}

fn png(file: &Path, [height, width]: [usize; 2], pixels: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(file).unwrap(), width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
}

/// The model with the tokenizer and the settings of the reference, and its frames and picture as files.
fn workplace() -> TempDir {
    let dir = workplace_with("fixtures/vlm");
    for file in fs::read_dir(reference(FOLDER)).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, dir.path().join("model").join(file.file_name().unwrap())).unwrap();
    }
    fs::remove_file(dir.path().join("model/reference.safetensors")).unwrap();
    let frames = stored().read("frames").unwrap();
    for (index, pixels) in frames.bytes.chunks(30 * 22 * 3).enumerate() {
        png(&dir.path().join(format!("{index}.png")), [30, 22], pixels);
    }
    png(&dir.path().join("picture.png"), [16, 24], &stored().read("picture").unwrap().bytes);
    dir
}

fn frames() -> Value {
    (0..5).map(|index| format!("{index}.png")).collect()
}

/// The conversation that the reference reads.
fn conversation() -> Value {
    row(json!([
        {"type": "video", "video": frames(), "fps": 4}, {"type": "text", "text": "And "},
        {"type": "image", "image": "picture.png"}, {"type": "text", "text": "What?"},
    ]))
}

fn load(dir: &TempDir, row: &Value, limit: usize) -> Result<(ChatFormat, Dataset), String> {
    fs::write(dir.path().join("rows.jsonl"), row.to_string()).unwrap();
    let format = ChatFormat::load(&dir.path().join("model")).unwrap();
    let data = Dataset::load(&dir.path().join("rows.jsonl"), &format, &DataOptions::new(limit));
    let text =
        |error: cotangent_trainer::data::DataError| error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
    data.map(|data| (format, data)).map_err(text)
}

fn outputs(
    model: &Model<Infer>,
    _: &Tensor<Infer>,
    batch: &Batch,
) -> cotangent::Result<(Tensor<Infer>, Tensor<Infer>)> {
    let states = model.hidden_states(&batch.tokens, &batch.rotary, batch.pictures.as_ref(), None)?;
    let (Some(tower), Some(pictures)) = (&model.visual, &batch.pictures) else { unreachable!() };
    Ok((model.logits(&states[states.len() - 1])?, tower.forward(&pictures.input)?.merged))
}

/// The largest difference over the largest magnitude.
fn deviation(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn a_video_is_read_as_transformers_reads_it() {
    let dir = workplace();
    let (format, data) = load(&dir, &conversation(), 2048).unwrap();
    let Example { tokens, is_target, pictures } = &data.examples[0];
    let expected: Vec<u32> = integers("input_ids").into_iter().map(i32::cast_unsigned).collect();
    assert_eq!(*tokens, expected, "the times of pairs of frames, and the marks around each and all of them");
    let learned: Vec<u32> = tokens.iter().zip(is_target).filter(|(_, learned)| **learned).map(|(id, _)| *id).collect();
    assert_eq!(learned.len(), "a cat".len() + 1, "{learned:?}");

    let vision = format.vision().unwrap();
    for (index, name) in ["pixel_values_videos", "pixel_values"].into_iter().enumerate() {
        let Patches { values, grid } = vision.patches(&pictures[index].source).unwrap();
        assert_eq!(grid, pictures[index].grid);
        assert!(values == stored().read(name).unwrap().to_f32().unwrap(), "{name}: other patches");
    }
    let grids: Vec<_> = pictures.iter().map(|picture| picture.grid).collect();
    let positions = row_positions(&vision.config, tokens, &grids).unwrap().tokens;
    let found = Positions::from_rows(&[&positions], tokens.len());
    let axes = (0..3).flat_map(|axis| positions.iter().map(move |position| position[axis])).collect::<Vec<_>>();
    assert_eq!(axes, integers("position_ids"), "{found:?}");

    let (model, config, _) = Model::load_with_vision(&dir.path().join("model"), Dtype::F32, &mut |_, _| {}).unwrap();
    let batch = data.batch(&[0]);
    let made = BatchMaker::new(config.rope.clone(), Some(vision.clone())).make(&batch, batch.counted()).unwrap();
    let nothing = Tensor::zeros(&[1], Dtype::F32).unwrap();
    let (logits, merged) = Session::new().unwrap().infer(&model, &nothing, &made, outputs).unwrap();
    let expected = |name: &str| stored().read(name).unwrap().to_f32().unwrap();
    // The features of the video come first, and the rows of the batch are padded.
    let (merged, of_video) = (merged.to_vec::<f32>().unwrap(), expected("merged"));
    assert!(deviation(&merged[..of_video.len()], &of_video) < 5e-6);
    let (logits, of_reference) = (logits.to_vec::<f32>().unwrap(), expected("logits"));
    let width = config.vocab_size;
    for (place, (found, expected)) in logits.chunks(width).zip(of_reference.chunks(width)).enumerate() {
        let worst = deviation(found, expected);
        assert!(worst < 5e-5, "{worst} at token {place} of {}", tokens.len());
    }
}

#[test]
fn a_model_learns_from_a_video_and_no_cut_goes_through_one() {
    let dir = workplace();
    let video = |more: &Value| {
        let mut part = json!({"type": "video", "video": frames()});
        part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row(json!([part, {"type": "text", "text": "What?"}]))
    };
    let by_rate = load(&dir, &video(&json!({"fps": 4})), 2048).unwrap().1.examples.remove(0);
    for same in [json!({"sample_fps": 4.0}), json!({"times": [0, 0.25, 0.5, 0.75, 1]})] {
        assert_eq!(load(&dir, &video(&same), 2048).unwrap().1.examples.remove(0).tokens, by_rate.tokens);
    }
    let place = by_rate.pictures[0].tokens.clone();
    let shown = json!({"messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": [{"type": "video", "video": frames(), "fps": 4}]}, {"role": "assistant", "content": "a cat"},
    ]});
    let whole = load(&dir, &shown, 2048).unwrap().1.examples.remove(0).pictures[0].tokens.clone();
    assert_eq!(whole.len(), place.len());
    let cut = load(&dir, &shown, whole.end - 1).unwrap().1.examples.remove(0);
    assert_eq!((cut.tokens.len(), cut.pictures.len()), (whole.start - 1, 0));

    fs::write(dir.path().join("train.jsonl"), video(&json!({"fps": 4})).to_string()).unwrap();
    let options = ["--iters", "6", "--batch-size", "1", "--steps-per-report", "3", "--learning-rate", "5e-3"];
    let fixed = ["train", "--model", "model", "--data", "train.jsonl", "--output", "out"];
    let losses = workplace::losses_of(&cotangent(&dir, &[&fixed[..], &options].concat()));
    assert!(losses.len() == 2 && losses[1] < losses[0], "{losses:?}");
}

#[test]
fn what_is_wrong_with_a_video_is_said_with_its_line() {
    let dir = workplace();
    fs::copy(dir.path().join("picture.png"), dir.path().join("other.png")).unwrap();
    let part = |part: Value| row(json!([part, {"type": "text", "text": "What?"}]));
    let frames = |names: &[&str]| part(json!({"type": "video", "video": names, "fps": 2}));
    let mut column = row("What?".into());
    column["videos"] = json!(["a.mp4"]);
    for (bad, expected) in [
        (part(json!({"type": "video", "video": "a.mp4"})), "found the file of a video, expected a list of its frames"),
        (part(json!({"video_url": {"url": "a.mp4"}})), "found the file of a video, expected a list of its frames"),
        (part(json!({"type": "video"})), "`messages[0].content[0].video`: found nothing, expected a list of frames"),
        (part(json!({"type": "video", "video": ["0.png", "1.png"]})), "found a video without times"),
        (part(json!({"type": "video", "video": ["0.png"], "times": [0, 1]})), "found 2 times for 1 frames"),
        (part(json!({"type": "video", "video": ["0.png"], "fps": 0})), "`messages[0].content[0].fps`: found `0`"),
        (frames(&["0.png"]), "begins with `DIR/0.png`: 1 frames, expected at least 2"),
        (frames(&["0.png", "other.png"]), "frame 1 has 24 by 16 pixels, the first has 22 by 30"),
        (frames(&["0.png", "text.png"]), "`DIR/text.png`: found text, expected a picture"),
        (frames(&["0.png", "absent.png"]), "`DIR/absent.png`: No such file or directory"),
        (column, "`videos`: found a column of videos, which is not read"),
        (row("<|video_pad|>".into()), "found more marks for pictures in the text than pictures"),
    ] {
        let message = load(&dir, &bad, 2048).map(|_| ()).unwrap_err();
        assert!(message.starts_with("`DIR/rows.jsonl`, line 1: ") && message.contains(expected), "{message}");
    }
    fs::remove_file(dir.path().join("model/video_preprocessor_config.json")).unwrap();
    let message = load(&dir, &conversation(), 2048).map(|_| ()).unwrap_err();
    assert!(
        message.contains("found a video, and `DIR/model`: found neither `video_preprocessor_config.json`"),
        "{message}"
    );
}

//! Tests of checkpoints, and the small files that they read.

mod codes;
mod damage;
mod experts;
mod fixtures;
mod plan;
mod shards;
mod write;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// A safetensors file: header length, header, data.
fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A sound file with an F32 tensor of each name and shape, filled with 0, 1, 2 ...
fn f32_file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut data) = (json!({}), Vec::new());
    for (name, shape) in tensors {
        let begin = data.len();
        let elements: usize = shape.iter().product();
        data.extend((0..elements).flat_map(|i| (i as f32).to_le_bytes()));
        header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
    }
    file_of(&header.to_string(), &data)
}

fn index_of(map: Value) -> String {
    json!({ "metadata": {}, "weight_map": map }).to_string()
}

/// The message of the error that `result` must be, with the folder `dir` taken out.
fn message<T>(result: Result<T, CheckpointError>, dir: &Path) -> String {
    match result {
        Ok(_) => "no error".to_owned(),
        Err(error) => {
            error.to_string().replace(&format!("{}/", dir.display()), "").replace(&dir.display().to_string(), ".")
        }
    }
}

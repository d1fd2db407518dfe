//! Reads the index of a checkpoint in several files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::quoting::quoted;
use crate::reading;

use super::CheckpointError;

const MAX_INDEX_BYTES: u64 = 100_000_000;

/// Reads `model.safetensors.index.json`: tensor name to the name of a file in the same folder.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let json = reading::read(path, MAX_INDEX_BYTES).map_err(|source| CheckpointError::io(path, source))?;
    let index: Index = serde_json::from_slice(&json).map_err(|error| {
        CheckpointError::damaged(path, format!("is not a valid index: {}", quoted(error.to_string())))
    })?;
    for (tensor, file) in &index.weight_map.0 {
        if !is_plain_name(file) {
            let reason = format!(
                "is said to be in `{}`, expected the name of a safetensors file in the same folder",
                quoted(file)
            );
            return Err(CheckpointError::tensor(path, tensor, reason));
        }
    }
    Ok(index.weight_map.0)
}

/// Returns whether `file` names a safetensors file directly in the folder: no path, no `..`.
fn is_plain_name(file: &str) -> bool {
    let mut components = Path::new(file).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == file)
        && file.ends_with(".safetensors")
        && !file.contains(['\\', ':', '\0'])
}

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WeightMapVisitor;

        impl<'de> Visitor<'de> for WeightMapVisitor {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut files = BTreeMap::new();
                while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                    if files.contains_key(&tensor) {
                        let name = quoted(&tensor);
                        return Err(A::Error::custom(format_args!("tensor `{name}` appears twice")));
                    }
                    files.insert(tensor, file);
                }
                Ok(WeightMap(files))
            }
        }

        deserializer.deserialize_map(WeightMapVisitor)
    }
}

//! The places in which checkpoints keep their head of multi-token prediction: among their tensors, in a file beside
//! them, or in a folder of its own.

use std::fs;
use std::path::PathBuf;

use cotangent::Plan;

use super::names::{TensorRole, classify};
use super::{Checkpoint, CheckpointError, Layout, LoadPlan, SafetensorsFile, is_present};

/// The file with the head alone, under its names in the model; no index lists it.
pub const MULTI_TOKEN_FILE: &str = "mtp.safetensors";

/// The place of the head of multi-token prediction.
#[derive(Debug)]
pub enum HeadPlace {
    /// Among the tensors of the checkpoint, in whose layout it is.
    Inside,
    /// A folder of the head's own, as mlx-vlm writes it.
    Folder(Checkpoint),
}

impl Checkpoint {
    /// Finds the head of multi-token prediction; `None` if there is none. The tensors of `mtp.safetensors`, if it is there, are
    /// the checkpoint's from then on.
    ///
    /// # Errors
    /// If its file is damaged.
    pub fn find_multi_token_head(&mut self) -> Result<Option<HeadPlace>, CheckpointError> {
        if self.names().any(is_of_head) {
            return Ok(Some(HeadPlace::Inside));
        }
        let beside = self.dir.join(MULTI_TOKEN_FILE);
        if is_present(&beside) {
            let file = SafetensorsFile::open(&beside)?;
            if let Some(stray) = file.names().find(|name| !is_of_head(name)) {
                let reason = "is no tensor of multi-token prediction, whose names begin with `mtp.`".to_owned();
                return Err(CheckpointError::tensor(&beside, stray, reason));
            }
            self.tensors.extend(file.names().map(|name| (name.to_owned(), self.files.len())));
            self.files.push(file);
            return Ok(Some(HeadPlace::Inside));
        }
        match self.head_folder().filter(|folder| folder.is_dir()) {
            Some(folder) => Checkpoint::open(folder).map(HeadPlace::Folder).map(Some),
            None => Ok(None),
        }
    }

    /// Says where a head was looked for.
    pub(crate) fn without_multi_token_head(&self) -> CheckpointError {
        let folder =
            self.head_folder().map_or_else(String::new, |folder| format!(", no folder `{}`", folder.display()));
        let reason = format!(
            "has no head of multi-token prediction: no tensors `mtp.*`, no `{MULTI_TOKEN_FILE}`{folder}\n\
             help: leave out `--mtp`, or take the original checkpoint; most conversions leave the head out"
        );
        CheckpointError::damaged(&self.dir, reason)
    }

    /// `NAME-mtp` beside the folder `NAME`.
    fn head_folder(&self) -> Option<PathBuf> {
        let dir = fs::canonicalize(&self.dir).ok()?;
        let name = dir.file_name()?.to_str()?;
        Some(dir.with_file_name(format!("{name}-mtp")))
    }

    /// Returns the layout of a head that this folder alone holds. Tensors with their full names are copies from a Hugging Face
    /// checkpoint; others were converted by mlx-vlm.
    pub(crate) fn layout_of_head(&self) -> Layout {
        if self.names().any(is_of_head) { Layout::HuggingFace } else { Layout::Mlx }
    }
}

impl<'a> LoadPlan<'a> {
    /// Finds a tensor for each parameter of a head in the `folder` of its own, and what the names there begin with.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_head_folder(
        folder: &'a Checkpoint,
        expected: Vec<(String, Plan)>,
    ) -> Result<(Self, &'static str), CheckpointError> {
        let layout = folder.layout_of_head();
        let prefix = if layout == Layout::HuggingFace { "mtp" } else { "" };
        let name = |name: String| if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let expected = expected.into_iter().map(|(own, plan)| (name(own), plan)).collect();
        Ok((Self::in_layout(folder, expected, Some(layout))?, prefix))
    }
}

fn is_of_head(stored: &str) -> bool {
    matches!(classify(stored), TensorRole::MultiTokenPrediction(_))
}

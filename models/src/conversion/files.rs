//! The files of a checkpoint that are not weights: tokenizer, chat templates, settings of images.

use std::fs;
use std::io;
use std::path::Path;

use crate::checkpoint::CheckpointError;
use crate::reading;

/// A folder of further chat templates.
const TEMPLATES: &str = "additional_chat_templates";

/// Copies what belongs to a model beside its weights and its configuration from the folder `from` to the folder `to`.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    copy_folder(from, to, &|name| {
        let is_of_weights = name == "config.json" || name.ends_with(".safetensors.index.json");
        let ends = [".json", ".jinja", ".txt", ".model"];
        !is_of_weights && ends.iter().any(|end| name.ends_with(end))
    })?;
    let templates = from.join(TEMPLATES);
    if templates.is_dir() {
        let to = to.join(TEMPLATES);
        fs::create_dir(&to).map_err(|source| CheckpointError::Io { file: to.clone(), source })?;
        copy_folder(&templates, &to, &|name| name.ends_with(".jinja"))?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<(), CheckpointError> {
    let io_error = |file: &Path, source| CheckpointError::Io { file: file.to_owned(), source };
    for entry in fs::read_dir(from).map_err(|source| io_error(from, source))? {
        let entry = entry.map_err(|source| io_error(from, source))?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(is_wanted) || entry.path().is_dir() {
            continue;
        }
        let copied = || -> io::Result<()> {
            let mut file = fs::File::create_new(to.join(&name))?;
            io::copy(&mut reading::open(&entry.path())?, &mut file)?;
            file.sync_all()
        };
        copied().map_err(|source| io_error(&entry.path(), source))?;
    }
    Ok(())
}

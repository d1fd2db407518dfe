//! The files in which checkpoints keep their chat templates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cotangent_models::quoting::quoted;
use cotangent_models::reading::{self, CONFIGURATION_BYTES};
use serde_json::Value as Json;

use super::DataError;
use super::tokenizer_files::read_json;

/// The template that is used for all that have none of their own.
pub(super) const DEFAULT: &str = "default";

/// Templates, and the file that the default one is from.
#[derive(Debug)]
pub(super) struct TemplateFiles {
    pub(super) file: PathBuf,
    /// Each with its name; one is [`DEFAULT`].
    pub(super) sources: Vec<(String, String)>,
}

/// Finds the templates of the checkpoint folder `dir` in the order of transformers: `chat_template.jinja` and the
/// others in `additional_chat_templates/`; else the member `chat_template` of `tokenizer_config.json` (`config`); else
/// that of `chat_template.json`, which older processors wrote.
pub(super) fn find(dir: &Path, config: &Json) -> Result<TemplateFiles, DataError> {
    let folder = dir.join("additional_chat_templates");
    let mut sources = additional(&folder)?;
    let file = dir.join("chat_template.jinja");
    if let Some(source) = reading::if_present(reading::read_text(&file, CONFIGURATION_BYTES))
        .map_err(|error| DataError::file(&file, error.to_string()))?
    {
        sources.insert(0, (DEFAULT.to_owned(), source));
        return Ok(TemplateFiles { file, sources });
    }
    if sources.iter().any(|(name, _)| name == DEFAULT) {
        return Ok(TemplateFiles { file: folder.join("default.jinja"), sources });
    }
    let older = [("tokenizer_config.json", config.clone()), ("chat_template.json", Json::Null)];
    for (name, json) in older {
        let file = dir.join(name);
        let json = if json.is_null() { read_json(&file)? } else { json };
        let found = match json.get("chat_template") {
            None | Some(Json::Null) => continue,
            Some(template) => templates_of_member(template).map_err(|reason| DataError::file(&file, reason))?,
        };
        for (name, source) in found {
            if !sources.iter().any(|(other, _)| *other == name) {
                sources.push((name, source));
            }
        }
        return match sources.iter().any(|(name, _)| name == DEFAULT) {
            true => Ok(TemplateFiles { file, sources }),
            false => {
                Err(DataError::file(&file, "`chat_template`: found only named templates, expected one named `default`"))
            }
        };
    }
    let reason = match sources.first() {
        Some((name, _)) => format!(
            "found only the template `{}` in `additional_chat_templates`, expected `chat_template.jinja`",
            quoted(name)
        ),
        None => {
            "has no chat template: neither `chat_template.jinja` nor `chat_template` in `tokenizer_config.json` or \
                 `chat_template.json`"
                .to_owned()
        }
    };
    let help = "\nhelp: fetch the file from the model's page, or use an instruction-tuned checkpoint";
    Err(DataError::file(dir, reason + help))
}

/// The templates in the folder, each named as its file.
fn additional(dir: &Path) -> Result<Vec<(String, String)>, DataError> {
    let fail = |file: &Path, error: io::Error| DataError::file(file, error.to_string());
    let Some(entries) = reading::if_present(fs::read_dir(dir)).map_err(|error| fail(dir, error))? else {
        return Ok(Vec::new());
    };
    let mut sources = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| fail(dir, error))?.path();
        let name = file.file_stem().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|_| file.extension().is_some_and(|extension| extension == "jinja")) {
            let source = reading::read_text(&file, CONFIGURATION_BYTES).map_err(|error| fail(&file, error))?;
            sources.push((name.to_owned(), source));
        }
    }
    sources.sort();
    Ok(sources)
}

/// One text, or a list of named ones.
fn templates_of_member(template: &Json) -> Result<Vec<(String, String)>, &'static str> {
    let text = |item: &Json, key: &str| item.get(key)?.as_str().map(str::to_owned);
    match template {
        Json::String(source) => Ok(vec![(DEFAULT.to_owned(), source.clone())]),
        Json::Array(items) => {
            let named = items.iter().map(|item| Some((text(item, "name")?, text(item, "template")?)));
            named
                .collect::<Option<_>>()
                .ok_or("`chat_template`: expected text, or a list of `{\"name\", \"template\"}`")
        }
        _ => Err("`chat_template`: expected text, or a list of templates"),
    }
}

//! Whole kernel functions of a `.metal` file.

use std::path::{Path, PathBuf};

use crate::bound::misfit;
use crate::build::{Build, MIXED_ARMS};
use crate::{BoundLaunch, BoundRun, Emulator, Error, Location, Source};
use cotangent_metal::translate::{Unit, function_unit};

/// A kernel function in the text of a `.metal` file.
#[derive(Clone, Debug, Default)]
pub struct FunctionText {
    /// The file's text, with `#include` and macros as for the preprocessor.
    pub source: Source,
    /// Folders in which `#include` finds files; others are refused.
    pub folders: Vec<PathBuf>,
    /// The function's name, or that of an instance, as its `[[host_name(..)]]` says.
    pub name: String,
    /// Values of function constants, by their index; `true` is 1.
    pub constants: Vec<(u32, i64)>,
}

impl Emulator {
    /// Compiles a kernel function, unless that was done before, and runs one launch of it.
    ///
    /// # Errors
    /// As for [`Emulator::run`]; also if the file has no function of that name, includes what lies outside of the given
    /// folders, or has a parameter that is not modelled.
    pub fn run_function(&self, function: &FunctionText, launch: &BoundLaunch<'_>) -> Result<BoundRun, Error> {
        if let Some(what) = misfit(launch) {
            return Err(Error::misfit(&function.name, what));
        }
        let text = self.preprocessed(function)?;
        let files: Vec<String> = marked_files(&text.text).map(|(_, file)| file.to_owned()).collect();
        let sources = [&Source::default(), &text];
        let compile = |(unit, buffers): (Unit, Vec<u32>)| {
            let build = Build { checks: launch.checks, casts: unit.casts, double: false, whole: true };
            let image = self.image_of(&function.name, sources, files.clone(), unit, build)?;
            self.run_bound(&image, &buffers, launch, &function.name)
        };
        let given = (function.constants.as_slice(), launch.threadgroup_memory.as_slice());
        match compile(function_unit(&function.name, given, &text, false)?) {
            Err(Error::Compile { messages, .. }) if mixes_arms(&messages) => {
                compile(function_unit(&function.name, given, &text, true)?)
            }
            run => run,
        }
    }

    /// Returns the text with everything that it includes, in one piece, with `#line` where files change.
    fn preprocessed(&self, function: &FunctionText) -> Result<Source, Error> {
        let failed = |messages: String| Error::Compile { kernel: function.name.clone(), messages };
        let mut expanded = self.preprocess(&function.source, &function.folders)?.map_err(failed)?;
        let shim = self.shim().to_owned();
        let inside = |file: &str| {
            let path = Path::new(file);
            let folder = |folder: &PathBuf| path.starts_with(folder) && !file.contains("..");
            file == function.source.file || path.starts_with(&shim) || function.folders.iter().any(folder)
        };
        if let Some((_, file)) = marked_files(&expanded).find(|(_, file)| !inside(file)) {
            let at = Location { file: function.source.file.clone(), line: function.source.line.max(1) };
            let what = format!("`{file}` is included, which lies in none of the folders given");
            let help = "name the folder that `#include` is relative to".into();
            return Err(Error::Source(cotangent_metal::Error::Unsupported { at, what, help }));
        }
        // Marks of the preprocessor become directives, which the rewrites read.
        expanded = expanded
            .lines()
            .map(|line| match marked(line) {
                Some((number, file)) => format!("#line {number} \"{file}\"\n"),
                None => format!("{line}\n"),
            })
            .collect();
        Ok(Source { text: expanded, file: function.source.file.clone(), line: 1 })
    }
}

/// Returns whether a compiler refused `?:` with arms of two types, in its own words or in ours.
fn mixes_arms(messages: &str) -> bool {
    let known = [MIXED_ARMS, "operands to ?:", "operands to ‘?:’", "conditional expression is ambiguous"];
    known.iter().any(|words| messages.contains(words))
}

/// Line and file of `# 12 "file" 2` or `#line 12 "file"`.
fn marked(line: &str) -> Option<(u32, &str)> {
    let rest = line.strip_prefix("#line ").or_else(|| line.strip_prefix("# "))?;
    let (number, rest) = rest.split_once(' ')?;
    let file = rest.split('"').nth(1)?;
    (!file.starts_with('<')).then_some((number.parse().ok()?, file))
}

fn marked_files(text: &str) -> impl Iterator<Item = (u32, &str)> {
    text.lines().filter_map(marked)
}

//! The parts that are mutated: every source and Rust body of a gradient, and the residuals that forwards save for them.

use anyhow::{Context, Result};
use cotangent::kernel::mutation::{Change, Mutation, met_in_body, outcome};
use cotangent::kernel::signature::PortRole;
use cotangent::kernel::{Body, Declaration, Route};

use super::source::{Edit, Mistake, edits};

/// Draws that are tried until a kernel takes one.
const DRAWS: u64 = 20;

/// A part of a kernel in which mistakes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The source of a launch.
    Text,
    /// The headers before the source.
    Headers,
    /// A Rust body.
    Body,
}

/// A kernel, backward or stage of which one part is mutated.
pub struct Subject {
    /// The kernel, backward or stage.
    pub declaration: &'static Declaration,
    /// The part that is mutated.
    pub part: Part,
    /// Whether only what is saved is mutated.
    only_saved: bool,
    /// The kernels whose generated checks must notice.
    pub checked_with: Vec<&'static Declaration>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutant {
    /// A mistake in a kernel source.
    Edit(Edit),
    /// A mistake in a Rust body.
    Operation {
        /// The tensor's number in a call.
        number: usize,
        /// The value that takes the tensor's place.
        change: Change,
    },
}

impl Mutant {
    /// Returns the kind of the mistake.
    pub fn mistake(&self) -> Mistake {
        match self {
            Mutant::Edit(edit) => edit.mistake,
            Mutant::Operation { .. } => Mistake::Operation,
        }
    }
}

/// All that there is to mutate in `kernels`, in their order.
pub fn subjects(kernels: &[&'static Declaration]) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
    for forward in kernels {
        let Route::Gradient { backward: Some(backward), .. } = forward.route else { continue };
        let backward = backward();
        for declaration in std::iter::once(backward).chain(backward.stages()) {
            let known = |subject: &&mut Subject| std::ptr::eq(subject.declaration, declaration) && !subject.only_saved;
            let mut is_known = false;
            for subject in subjects.iter_mut().filter(|subject| known(subject)) {
                subject.checked_with.push(forward);
                is_known = true;
            }
            if !is_known {
                subjects.extend(parts(declaration, false, forward));
            }
        }
        let saves = forward.signature.outputs.iter().any(|port| port.role == PortRole::Saved);
        if saves {
            subjects.extend(parts(forward, true, forward).into_iter().filter(|subject| subject.part != Part::Headers));
        }
    }
    subjects
}

fn parts(declaration: &'static Declaration, only_saved: bool, forward: &'static Declaration) -> Vec<Subject> {
    // A stage also has a check of its own, which is faster and therefore comes first.
    let stage = matches!(declaration.route, Route::Stage).then_some(declaration);
    let subject =
        |part| Subject { declaration, part, only_saved, checked_with: stage.into_iter().chain([forward]).collect() };
    match &declaration.body {
        Body::Launch(launch) if launch.headers.is_empty() => vec![subject(Part::Text)],
        Body::Launch(_) => vec![subject(Part::Text), subject(Part::Headers)],
        Body::Rust { .. } => vec![subject(Part::Body)],
    }
}

impl Subject {
    /// The name of the kernel, backward or stage.
    pub fn name(&self) -> &'static str {
        self.declaration.signature.name
    }

    /// Returns the text that is mutated; `None` for a Rust body.
    pub fn text(&self) -> String {
        match (&self.declaration.body, self.part) {
            (Body::Launch(launch), Part::Text) => launch.metal.to_owned(),
            (Body::Launch(launch), Part::Headers) => launch.headers.concat(),
            _ => String::new(),
        }
    }

    /// Returns every mistake, in the order of the text.
    ///
    /// # Errors
    /// If a Rust body cannot be run to see what it computes.
    pub fn mutants(&self) -> Result<Vec<Mutant>> {
        if self.part != Part::Body {
            let edits = edits(&self.text(), self.declaration.signature, self.only_saved);
            return Ok(edits.into_iter().map(Mutant::Edit).collect());
        }
        let forward = self.checked_with.last().context("a subject is checked with a kernel")?;
        // A body may refuse the sizes of a draw.
        let met = (0..DRAWS).find_map(|draw| match met_in_body(self.declaration, || outcome(forward, draw)) {
            (Ok(_), met) => Some(met),
            (Err(_), _) => None,
        });
        let met = met.with_context(|| format!("`{}` runs at no draw", forward.signature.name))?;
        let changes = |number: usize| {
            let swaps = met[number].has_twin.then_some(Change::Swapped);
            let changes = [Change::Negated, Change::Doubled, Change::Dropped].into_iter().chain(swaps);
            changes.map(move |change| Mutant::Operation { number, change })
        };
        Ok((0..met.len()).flat_map(changes).collect())
    }

    /// The mistake as the runtime takes it.
    pub fn mutation(&self, mutant: &Mutant) -> Mutation {
        match (mutant, self.part) {
            (Mutant::Edit(edit), Part::Headers) => Mutation::Headers(edit.apply(&self.text())),
            (Mutant::Edit(edit), _) => Mutation::Text(edit.apply(&self.text())),
            (Mutant::Operation { number, change }, _) => Mutation::Operation { number: *number, change: *change },
        }
    }

    /// Returns the place and the kind of the mistake, for a person.
    pub fn describe(&self, mutant: &Mutant) -> String {
        let Declaration { file, line, body, .. } = self.declaration;
        match mutant {
            Mutant::Operation { number, change } => {
                let change = format!("{change:?}").to_lowercase();
                format!("{file}:{line}: tensor {number} of the body of `{}` {change}", self.name())
            }
            Mutant::Edit(edit) => {
                let text = self.text();
                let place = match (body, self.part) {
                    (Body::Launch(launch), Part::Text) => {
                        let file = launch.file.map_or_else(
                            || (*file).to_owned(),
                            |own| std::path::Path::new(file).with_file_name(own).display().to_string(),
                        );
                        format!("{file}:{}", launch.line as usize + edit.line(&text))
                    }
                    _ => format!("{file}:{line}: headers of `{}`", self.name()),
                };
                let line = text.lines().nth(edit.line(&text)).unwrap_or_default().trim();
                let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                let (was, is) = (one_line(&text[edit.range.clone()]), one_line(&edit.by));
                format!("{place}: {}: `{was}` is `{is}` in `{line}`", edit.mistake)
            }
        }
    }
}

//! An audit as people and programs read it, and what it is made of.

mod batch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub use batch::spread_batch;
use cotangent::{Audit, AuditedParameter, Cut, CutKind, GradientState};
use serde_json::{Value, json};

/// The columns of the text.
const WIDTH: usize = 80;
/// The number of parameters from which on layers that are alike share their lines.
const LONG: usize = 30;

/// An audit with what was audited.
#[derive(Debug)]
pub struct AuditReport {
    /// The checkpoint, as it was named.
    pub model: String,
    /// The selection of parameters that should train.
    pub view: &'static str,
    /// The backend on which the audit was computed.
    pub backend: &'static str,
    /// The dtype of matrices in the computation.
    pub dtype: String,
    /// Rows of the batch.
    pub rows: usize,
    /// Tokens of a row.
    pub tokens: usize,
    /// Pictures in the batch.
    pub pictures: usize,
    /// The audit itself.
    pub audit: Audit,
}

impl AuditReport {
    /// A table of parameters, the cuts, and the verdict, in lines of 80 columns as far as names allow. `all` gives every
    /// parameter its own line.
    pub fn to_text(&self, all: bool) -> String {
        let AuditReport { model, view, backend, dtype, rows, tokens, pictures, audit } = self;
        let pictures = if *pictures > 0 { format!(" with {pictures} pictures") } else { String::new() };
        let mut text = format!("Audit of `{model}`: {view}\n");
        let _ = writeln!(
            text,
            "One step of {rows} x {tokens} tokens{pictures} on {backend} in {dtype}, loss {:.4}\n",
            audit.loss
        );
        text += &table(&audit.parameters, all);
        text += &cuts(&audit.cuts);
        text += &self.verdict();
        text
    }

    fn verdict(&self) -> String {
        let audit = &self.audit;
        let frozen = match audit.frozen {
            0 => String::new(),
            frozen => format!(", {frozen} are frozen"),
        };
        if audit.parameters.is_empty() {
            return format!("\nFAILED: nothing should train{frozen}\n");
        }
        let failures: Vec<&AuditedParameter> = audit.failures().collect();
        if failures.is_empty() {
            return format!("\nAll {} parameters train{frozen}.\n", audit.parameters.len());
        }
        let count = audit.parameters.len();
        let mut text = format!("\nFAILED: {} of {count} parameters should train and do not{frozen}\n", failures.len());
        let width = failures.iter().map(|parameter| parameter.name.len()).max().unwrap_or(0);
        for parameter in &failures {
            let _ = writeln!(text, "  {:width$}  {}", parameter.name, state(parameter.gradient));
        }
        let states: BTreeSet<&str> = failures.iter().filter_map(|parameter| help(parameter.gradient)).collect();
        for help in states {
            text += &wrap(&format!("help: {help}"), "");
        }
        text
    }

    /// Returns the audit as JSON. Norms and losses that are not numbers are null.
    pub fn to_json(&self) -> Value {
        let audit = &self.audit;
        let parameters = audit.parameters.iter().map(|parameter| {
            let (norm, zeros) = match parameter.gradient {
                GradientState::Finite { norm, zeros } => (json!(norm), json!(zeros)),
                _ => (Value::Null, Value::Null),
            };
            json!({
                "name": parameter.name,
                "shape": parameter.shape,
                "dtype": parameter.dtype.to_string(),
                "gradient": state(parameter.gradient),
                "norm": norm,
                "share_of_zeros": zeros,
            })
        });
        let cuts = audit.cuts.iter().map(|cut| {
            json!({
                "kind": cut.kind.to_string(),
                "reason": cut.reason,
                "file": cut.place.0,
                "line": cut.place.1,
                "part": cut.part,
                "shape": cut.shape,
                "dtype": cut.dtype.to_string(),
                "needed_gradient": cut.needed_gradient,
            })
        });
        json!({
            "model": self.model,
            "view": self.view,
            "backend": self.backend,
            "dtype": self.dtype,
            "rows": self.rows,
            "tokens": self.tokens,
            "pictures": self.pictures,
            "loss": audit.loss,
            "passed": audit.passed(),
            "failed": audit.failures().count(),
            "frozen": audit.frozen,
            "parameters": parameters.collect::<Vec<_>>(),
            "cuts": cuts.collect::<Vec<_>>(),
        })
    }
}

fn state(gradient: GradientState) -> &'static str {
    match gradient {
        GradientState::Finite { .. } => "finite",
        GradientState::Zero => "zero",
        GradientState::NotFinite => "not finite",
        GradientState::Missing => "missing",
    }
}

/// Returns what to look at first.
fn help(gradient: GradientState) -> Option<&'static str> {
    match gradient {
        GradientState::Finite { .. } => None,
        GradientState::Zero => Some(
            "find out why the loss does not depend on a parameter whose gradient is zero: a cut listed above, or weights \
             after it that are all zero",
        ),
        GradientState::NotFinite => {
            Some("look for infinities and NaN in the checkpoint's weights where a gradient is not finite")
        }
        GradientState::Missing => {
            Some("put a parameter whose gradient is missing into a part that the model's forward uses")
        }
    }
}

/// One line of the table: a parameter, or those of several layers that are alike.
struct Row<'a> {
    /// The layers' common name and their numbers; nothing for a parameter of no layer.
    layers: Option<(&'a str, BTreeSet<usize>)>,
    name: &'a str,
    shape: &'a [i32],
    gradient: &'static str,
    /// The smallest and the largest norm.
    norms: Option<(f64, f64)>,
    /// The largest share of zeros, in percent.
    zeros: u32,
}

impl Row<'_> {
    fn gradient(&self) -> String {
        let state = if self.zeros > 0 { format!("{} % zero", self.zeros) } else { self.gradient.to_owned() };
        match self.norms {
            None => self.gradient.to_uppercase(),
            Some((least, most)) if least == most => format!("{state}  {least:.1e}"),
            Some((least, most)) => format!("{state}  {least:.1e} to {most:.1e}"),
        }
    }
}

/// `layers.3.mlp.up_proj.weight` as `layers`, 3, `mlp.up_proj.weight`.
fn split_at_layer(name: &str) -> Option<(&str, usize, &str)> {
    let mut at = 0;
    for segment in name.split('.') {
        if let (Ok(index), false) = (segment.parse(), at == 0) {
            return Some((&name[..at - 1], index, name.get(at + segment.len() + 1..)?));
        }
        at += segment.len() + 1;
    }
    None
}

fn rows(parameters: &[AuditedParameter], group: bool) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for parameter in parameters {
        let (norm, zeros) = match parameter.gradient {
            GradientState::Finite { norm, zeros } => (Some(norm), (zeros * 100.0).round() as u32),
            _ => (None, 0),
        };
        let (shape, gradient) = (parameter.shape.as_slice(), state(parameter.gradient));
        let layer = if group { split_at_layer(&parameter.name) } else { None };
        let Some((list, index, name)) = layer else {
            let norms = norm.map(|norm| (norm, norm));
            rows.push(Row { layers: None, name: &parameter.name, shape, gradient, norms, zeros });
            continue;
        };
        let alike = rows.iter_mut().find(|row| {
            row.layers.as_ref().is_some_and(|(known, _)| *known == list)
                && (row.name, row.shape, row.gradient) == (name, shape, gradient)
        });
        match alike {
            Some(row) => {
                if let Some((_, indices)) = &mut row.layers {
                    indices.insert(index);
                }
                row.zeros = row.zeros.max(zeros);
                row.norms = row.norms.zip(norm).map(|((least, most), norm)| (norm.min(least), norm.max(most)));
            }
            None => {
                let layers = Some((list, BTreeSet::from([index])));
                rows.push(Row { layers, name, shape, gradient, norms: norm.map(|norm| (norm, norm)), zeros });
            }
        }
    }
    rows
}

fn table(parameters: &[AuditedParameter], all: bool) -> String {
    let rows = rows(parameters, !all && parameters.len() >= LONG);
    // Parameters outside of layers come first, then those of layers in the order of their first layer.
    let mut sections: Vec<(String, Vec<&Row<'_>>)> = Vec::new();
    for row in &rows {
        let title = row.layers.as_ref().map_or_else(String::new, |(list, indices)| elements(list, indices));
        match sections.iter_mut().find(|(known, _)| *known == title) {
            Some((_, section)) => section.push(row),
            None => sections.push((title, vec![row])),
        }
    }
    let indent = |title: &str| if title.is_empty() { "" } else { "  " };
    let shape = |row: &Row<'_>| {
        let extents: Vec<String> = row.shape.iter().map(ToString::to_string).collect();
        extents.join(" x ")
    };
    let cells = sections.iter().flat_map(|(title, rows)| rows.iter().map(move |row| (indent(title), row)));
    let names = cells.map(|(indent, row)| indent.len() + row.name.len()).max().unwrap_or(0).max("parameter".len());
    let shapes = rows.iter().map(|row| shape(row).len()).max().unwrap_or(0).max("shape".len());
    let mut text = format!("{:names$}  {:shapes$}  gradient, its norm\n", "parameter", "shape");
    for (title, section) in &sections {
        if !title.is_empty() {
            text += &wrap(title, "  ");
        }
        for row in section {
            let name = format!("{}{}", indent(title), row.name);
            let _ = writeln!(text, "{name:names$}  {:shapes$}  {}", shape(row), row.gradient());
        }
    }
    text
}

/// `layers.3`, or `layers 0-2, 4, 6-8`.
fn elements(list: &str, indices: &BTreeSet<usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    if let [(first, last)] = runs.as_slice()
        && first == last
    {
        return format!("{list}.{first}");
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    format!("{list} {}", runs.join(", "))
}

fn cuts(cuts: &[Cut]) -> String {
    if cuts.is_empty() {
        return wrap("\nNo cuts: the graph met no `detach`, and nothing else that stops a gradient on purpose.", "");
    }
    let (untested, cuts): (Vec<&Cut>, Vec<&Cut>) = cuts.iter().partition(|cut| cut.kind == CutKind::Untested);
    let of = |title: &str, cuts: &[&Cut]| if cuts.is_empty() { String::new() } else { listed(title, cuts) };
    of("Cuts, at which gradients stop on purpose:", &cuts)
        + &of("Kernels whose gradient no generated test holds:", &untested)
}

fn listed(title: &str, cuts: &[&Cut]) -> String {
    // Cuts of one line of the sources are one cut to the reader, in whatever parts they are.
    let mut places: BTreeMap<(&str, u32), Vec<&Cut>> = BTreeMap::new();
    for cut in cuts {
        places.entry(cut.place).or_default().push(cut);
    }
    let mut text = format!("\n{title}\n");
    for ((file, line), cuts) in places {
        let reasons: BTreeSet<(String, &str)> =
            cuts.iter().map(|cut| (cut.kind.to_string(), cut.reason.as_str())).collect();
        for (kind, reason) in reasons {
            text += &wrap(&format!("  {kind}: {reason}"), "    ");
        }
        let _ = writeln!(text, "    at {file}:{line}");
        let parts: Vec<&str> = cuts.iter().map(|cut| cut.part.as_str()).filter(|part| !part.is_empty()).collect();
        let cuts_nothing = cuts.iter().all(|cut| !cut.needed_gradient && says_what_it_needed(cut.kind));
        let lost = if cuts_nothing { "; no gradient would have come here" } else { "" };
        let found =
            format!("    in {}{lost}", if parts.is_empty() { "the whole graph".to_owned() } else { places_of(&parts) });
        text += &wrap(&found, "    ");
    }
    text
}

/// Returns whether a cut of this kind lists also what had no gradient to lose.
fn says_what_it_needed(kind: CutKind) -> bool {
    matches!(kind, CutKind::Detach | CutKind::StoredAsData)
}

/// Parts of the model, layers by their ranges.
fn places_of(parts: &[&str]) -> String {
    let mut layers: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for part in parts {
        match part.rsplit_once('.').and_then(|(list, index)| Some((list, index.parse().ok()?))) {
            Some((list, index)) => {
                layers.entry(list).or_default().insert(index);
            }
            None if names.iter().all(|known| known != part) => names.push((*part).to_owned()),
            None => {}
        }
    }
    names.extend(layers.into_iter().map(|(list, indices)| elements(list, &indices)));
    names.join(", ")
}

/// `text` in lines of at most [`WIDTH`] columns, those after the first behind `indent`. Spaces at its start stay.
fn wrap(text: &str, indent: &str) -> String {
    let start = text.len() - text.trim_start().len();
    let mut wrapped = text[..start].to_owned();
    let mut column = start;
    let mut empty = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !empty && column + 1 + length > WIDTH {
            wrapped += "\n";
            wrapped += indent;
            column = indent.len();
        } else if !empty {
            wrapped.push(' ');
            column += 1;
        }
        wrapped += word;
        column += length;
        empty = false;
    }
    wrapped + "\n"
}

#[cfg(test)]
mod tests;

//! minijinja, set up as transformers sets up Jinja.

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use cotangent_models::quoting::quoted;

use super::{Json, python};

/// Instructions that one rendering may take. A conversation of a thousand turns takes a few hundred thousand.
const FUEL: u64 = 10_000_000;

/// The bytes that a rendering may have, if four times its input is not more: no template repeats a conversation that often.
const LONGEST_TEXT: usize = 32 << 20;

/// Compiled templates, by name.
///
/// Blocks are trimmed, Python's string methods exist, `tojson` and what is printed look as in Python, `raise_exception`
/// and `strftime_now` are there.
#[derive(Debug)]
pub(super) struct Jinja {
    environment: Environment<'static>,
}

impl Jinja {
    /// Compiles named templates; an error says what is wrong with which line.
    pub(super) fn compile(sources: &[(String, String)]) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_syntax(blocks_trimmed());
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_formatter(|out, _, value| Ok(out.write_str(&python::display(value)?)?));
        environment.add_filter("tojson", python::tojson);
        environment.add_filter("string", |value: &Value| python::display(value));
        environment.add_function("strftime_now", |format: &str| python::strftime_now(format));
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        for (name, source) in sources {
            environment
                .add_template_owned(name.clone(), without_generation_tags(source))
                .map_err(|error| describe(&error))?;
        }
        Ok(Self { environment })
    }

    /// Renders the template `name` with `variables`, the text of a JSON object; an error says why not, in the template's
    /// own words where it has any.
    pub(super) fn render(&self, name: &str, variables: &str) -> Result<String, String> {
        let longest = LONGEST_TEXT.max(4 * variables.len());
        let variables = Json::parse_deep(variables).map_err(|error| error.to_string())?;
        let variables = python::value(&variables);
        let rendered = self.environment.get_template(name).and_then(|template| template.render(variables));
        match rendered {
            Ok(text) if text.len() > longest => {
                Err(format!("writes {} bytes for one conversation, expected at most {longest}", text.len()))
            }
            rendered => rendered.map_err(|error| describe(&error)),
        }
    }
}

/// A line break after a block tag and blanks before it do not count.
fn blocks_trimmed() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    // Building fails only if delimiters clash, and these are the default ones.
    syntax.build().unwrap_or_default()
}

/// Some templates mark what the assistant generates with a tag that only transformers knows. The spans are found
/// without it, so it becomes a tag without effect that treats the blanks around it alike.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        rest = tag;
        let Some(length) = tag.find("%}") else { break };
        let inner = &tag[2..length];
        let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let replacement = match word {
            "generation" => inner.replacen(word, "if true", 1),
            "endgeneration" => inner.replacen(word, "endif", 1),
            _ => inner.to_owned(),
        };
        result.push_str("{%");
        result.push_str(&replacement);
        result.push_str("%}");
        rest = &tag[length + 2..];
    }
    result.push_str(rest);
    result
}

fn describe(error: &Error) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "does not end within ten million instructions".to_owned(),
        (ErrorKind::InvalidOperation, Some(detail)) => quoted(detail),
        (kind, Some(detail)) => format!("{kind}: {}", quoted(detail)),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

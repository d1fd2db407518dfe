//! Lines of the preprocessor.

use super::lexer::Token;
use super::rewrite::{Context, Target, Writer, rewrite};
use crate::{Error, Source};

impl<'t> Writer<'_, 't> {
    /// Writes what a directive is translated to.
    pub(super) fn directive(&mut self, token: &Token<'t>) -> Result<(), Error> {
        let words = token.text[1..].trim_start();
        let name = words.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        match name {
            // Metal's own headers are always included.
            "include" | "import" => {
                if words.contains("metal") || words.contains("simd/") {
                    self.out.extend(token.text.matches('\n'));
                    return Ok(());
                }
                Err(self.error(
                    token,
                    format!("`#{words}` names a file that is not Metal's"),
                    "paste its text into the header",
                ))
            }
            "define" => {
                let body = Source {
                    text: words["define".len()..].to_owned(),
                    file: self.places.of(token).file,
                    line: self.places.of(token).line,
                };
                self.out += "#define";
                // A macro's body holds neither attributes nor instances of the file.
                let context = Context { is_macro: true, constants: None, ..self.context };
                self.out += &rewrite(&body, self.target, context, self.sites)?;
                Ok(())
            }
            // Without it arrays of tiles are not kept in registers.
            "pragma" if self.target == Target::Cuda && words["pragma".len()..].trim_start().starts_with("unroll") => {
                self.out += token.text;
                Ok(())
            }
            "pragma" => {
                self.out.extend(token.text.matches('\n'));
                Ok(())
            }
            _ => {
                self.out += token.text;
                Ok(())
            }
        }
    }
}

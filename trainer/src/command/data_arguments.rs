//! Options of every command that reads a data set.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use cotangent_models::config::TextConfig;
use cotangent_trainer::base_model::BaseModel;
use cotangent_trainer::data::json::Members;
use cotangent_trainer::data::lines::DEFAULT_MAX_LINE_BYTES;
use cotangent_trainer::data::{ChatFormat, Columns, DataOptions, Json};

use super::checkpoint::sequence_limit;
use super::values::positive_count;

/// Options for reading data, and for the chat template.
#[derive(Args, Debug)]
pub struct DataArguments {
    /// The most tokens of a conversation; longer ones are cut [default: 2048, or what the model was made for]
    #[arg(long, value_name = "N", value_parser = positive_count, help_heading = "Data")]
    max_seq_length: Option<usize>,
    /// Lines of more bytes are refused
    #[arg(long, value_name = "N", value_parser = positive_count, default_value_t = DEFAULT_MAX_LINE_BYTES, help_heading = "Data")]
    max_line_bytes: usize,
    /// Keys of the data that mean nothing here
    #[arg(long, value_enum, default_value_t, help_heading = "Data")]
    columns: ColumnsOption,
    /// Stop if the chat template leaves something of a conversation out, or the cut loses the end of a turn
    #[arg(long, help_heading = "Data")]
    strict_template: bool,
    /// Make each message of the assistant an example of its own, with the messages before it as the template then writes
    /// them
    #[arg(long, help_heading = "Data")]
    pub one_example_per_turn: bool,
    #[command(flatten)]
    pub template: TemplateArguments,
    #[command(flatten)]
    pub pictures: PictureArguments,
}

/// The size limits of pictures.
#[derive(Args, Debug)]
pub struct PictureArguments {
    /// Pictures of fewer pixels are enlarged [default: as the checkpoint's image processor has it]
    #[arg(long, value_name = "N", value_parser = positive_count, help_heading = "Data")]
    min_pixels: Option<usize>,
    /// Pictures of more pixels are shrunk [default: as the checkpoint's image processor has it]
    #[arg(long, value_name = "N", value_parser = positive_count, help_heading = "Data")]
    max_pixels: Option<usize>,
}

/// Further variables of the chat template.
#[derive(Args, Debug)]
pub struct TemplateArguments {
    /// Variables for the chat template, such as '{"enable_thinking": false}'
    #[arg(long, visible_alias = "chat-template-config", value_name = "JSON", value_parser = members, help_heading = "Data")]
    pub chat_template_args: Option<Arguments>,
}

/// A JSON object.
#[derive(Debug, Clone)]
pub struct Arguments {
    text: String,
    members: Members,
}

/// The treatment of keys that mean nothing here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ColumnsOption {
    /// Passed over and counted
    #[default]
    Extra,
    /// Refused
    Strict,
}

impl DataArguments {
    /// Gives `base` the arguments of its chat template, and returns the options for reading data.
    ///
    /// # Errors
    /// If the model or its template cannot do what is asked for.
    pub fn prepare(&self, base: &mut BaseModel) -> Result<DataOptions> {
        self.prepare_format(&mut base.format, &base.config)
    }

    /// Prepares as [`DataArguments::prepare`] does, for a model whose weights are not loaded.
    ///
    /// # Errors
    /// If the model or its template cannot do what is asked for.
    pub fn prepare_format(&self, format: &mut ChatFormat, config: &TextConfig) -> Result<DataOptions> {
        self.template.apply(format)?;
        self.pictures.apply(format)?;
        Ok(DataOptions {
            max_seq_length: sequence_limit(self.max_seq_length, config.max_position_embeddings)?,
            max_line_bytes: self.max_line_bytes,
            columns: match self.columns {
                ColumnsOption::Extra => Columns::Extra,
                ColumnsOption::Strict => Columns::Strict,
            },
            strict_template: self.strict_template,
            one_example_per_turn: self.one_example_per_turn,
        })
    }

    /// Returns what must be the same when a run goes on, beside the data itself.
    pub fn identity(&self) -> [(String, String); 4] {
        let limit = |limit: Option<usize>| limit.map_or("the checkpoint's".into(), |limit| limit.to_string());
        [
            ("--min-pixels".into(), limit(self.pictures.min_pixels)),
            ("--max-pixels".into(), limit(self.pictures.max_pixels)),
            ("--chat-template-args".into(), self.template.text().to_owned()),
            ("--one-example-per-turn".into(), self.one_example_per_turn.to_string()),
        ]
    }
}

impl PictureArguments {
    /// Gives the limits to the checkpoint's way of writing pictures.
    ///
    /// # Errors
    /// If it reads none, or nothing lies between the limits.
    pub fn apply(&self, format: &mut ChatFormat) -> Result<()> {
        if self.min_pixels.is_none() && self.max_pixels.is_none() {
            return Ok(());
        }
        if let Err(reason) = format.vision() {
            bail!("`--min-pixels` and `--max-pixels` are about pictures, and {reason}");
        }
        if let Some(vision) = format.vision_mut() {
            let limits = &mut vision.settings.limits;
            limits.least = self.min_pixels.unwrap_or(limits.least);
            limits.most = self.max_pixels.unwrap_or(limits.most);
            if limits.least > limits.most {
                bail!(
                    "found {} to {} pixels, expected a lower limit below the upper one\n\
                     help: give both `--min-pixels` and `--max-pixels`",
                    limits.least,
                    limits.most
                );
            }
        }
        Ok(())
    }
}

impl TemplateArguments {
    /// Gives the arguments to the chat template.
    ///
    /// # Errors
    /// If the template does not work with them.
    pub fn apply(&self, format: &mut ChatFormat) -> Result<()> {
        if let Some(arguments) = &self.chat_template_args {
            format.set_template_arguments(&arguments.members)?;
        }
        Ok(())
    }

    /// The arguments as they were given.
    pub fn text(&self) -> &str {
        self.chat_template_args.as_ref().map_or("{}", |arguments| &arguments.text)
    }
}

fn members(text: &str) -> Result<Arguments, String> {
    match Json::parse(text) {
        Ok(Json::Object(members)) => Ok(Arguments { text: text.to_owned(), members: *members }),
        Ok(_) => Err("expected a JSON object".into()),
        Err(error) => Err(format!("expected a JSON object: {error}")),
    }
}

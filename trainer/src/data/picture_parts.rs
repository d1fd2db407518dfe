//! Pictures and videos in conversations: as parts of a message, and pictures as marks in its text and as a column beside the
//! messages.

use super::json::{Json, Members, describe};
use super::schema::{SchemaError, fail, member};
use super::{Message, Role};
use crate::numbers::counted;
use crate::pictures::{PictureSource, VisualSource};

/// Stands in the text of a message for one of its pictures or videos. Unicode reserves it for such a use, so no text has it.
pub const PICTURE: char = '\u{10FFFE}';

/// The mark that stands for a picture in plain text.
const MARK: &str = "<image>";

/// The keys under which rows list their pictures.
const COLUMNS: [&str; 2] = ["images", "image"];

/// Returns whether a part of a message is a picture: by its type, or by what it holds.
pub(super) fn is_picture(part: &Members) -> bool {
    match member(part, "type").and_then(Json::as_str) {
        Some("image" | "image_url" | "input_image") => true,
        Some(_) => false,
        None => ["image", "image_url"].iter().any(|key| member(part, key).is_some()),
    }
}

/// The picture of a part at `path`; `None` if the row's column of pictures holds it.
pub(super) fn picture_of_part(part: &Members, path: &str) -> Result<Option<PictureSource>, SchemaError> {
    for key in ["image", "image_url", "url", "path"] {
        if let Some(value) = member(part, key) {
            return source(value, &format!("{path}.{key}")).map(Some);
        }
    }
    match member(part, "base64") {
        None => Ok(None),
        Some(value) => encoded(value, &format!("{path}.base64")).map(Some),
    }
}

/// A picture as a path, an address, or an object that holds one of these or the bytes.
pub(super) fn source(value: &Json, path: &str) -> Result<PictureSource, SchemaError> {
    match value {
        Json::String(text) => PictureSource::parse(text).or_else(|reason| fail(path, reason)),
        Json::Object(members) => {
            for key in ["bytes", "base64"] {
                if let Some(value) = member(members, key) {
                    return encoded(value, &format!("{path}.{key}"));
                }
            }
            match ["url", "path", "image"].iter().find_map(|key| Some((key, member(members, key)?))) {
                Some((key, Json::String(text))) => {
                    PictureSource::parse(text).or_else(|reason| fail(format!("{path}.{key}"), reason))
                }
                _ => fail(path, "found an object without `path`, `url` or `base64`, expected a picture"),
            }
        }
        other => fail(path, format!("found {}, expected the path of a picture", describe(Some(other)))),
    }
}

fn encoded(value: &Json, path: &str) -> Result<PictureSource, SchemaError> {
    match value {
        Json::String(text) => PictureSource::from_base64(text).or_else(|reason| fail(path, reason)),
        other => fail(path, format!("found {}, expected base64 text", describe(Some(other)))),
    }
}

/// Gives the pictures of the row's column to the messages: to parts that name none, else to marks in the text, else to the
/// beginning of the first text of the user.
pub(super) fn distribute(top: &Members, messages: &mut [Message]) -> Result<(), SchemaError> {
    if let Some(key) = ["videos", "video"].into_iter().find(|key| member(top, key).is_some()) {
        return fail(
            key,
            "found a column of videos, which is not read\n\
             help: write parts `{\"type\": \"video\", \"video\": [frames], \"fps\": ..}` into the messages",
        );
    }
    let Some((key, column)) = COLUMNS.iter().find_map(|key| Some((*key, member(top, key)?))) else {
        return match messages.iter().flat_map(|message| &message.pictures).any(Option::is_none) {
            true => fail("messages", "found a part for a picture that names none, and no `images` beside the messages"),
            false => Ok(()),
        };
    };
    let items = match column {
        Json::Array(items) => items.as_slice(),
        item => std::slice::from_ref(item),
    };
    let sources = items.iter().enumerate().map(|(index, item)| source(item, &format!("{key}[{index}]")));
    let mut sources = sources.collect::<Result<Vec<_>, _>>()?.into_iter();
    let count = sources.len();

    let has_parts = messages.iter().any(|message| !message.pictures.is_empty());
    if !has_parts && count > 0 {
        let marks: usize = messages.iter().map(|message| message.content.matches(MARK).count()).sum();
        if marks > 0 {
            for message in messages.iter_mut() {
                let own = message.content.matches(MARK).count();
                message.content = message.content.replace(MARK, PICTURE.encode_utf8(&mut [0; 4]));
                message.pictures = vec![None; own];
            }
        } else if let Some(first) = messages.iter_mut().find(|message| message.role == Role::User) {
            first.content.insert_str(0, &PICTURE.to_string().repeat(count));
            first.pictures = vec![None; count];
        }
    }
    let mut places = 0;
    for place in messages.iter_mut().flat_map(|message| &mut message.pictures).filter(|place| place.is_none()) {
        places += 1;
        *place = sources.next().map(VisualSource::Picture);
    }
    match places == count {
        true => Ok(()),
        false => fail(
            key,
            format!(
                "found {} for {} in the messages, expected as many",
                counted(count, "picture"),
                counted(places, "place")
            ),
        ),
    }
}

/// Checks that a text has no character that stands for pictures.
pub(super) fn check_text(text: &str, path: &str) -> Result<(), SchemaError> {
    match text.contains(PICTURE) {
        true => fail(path, "found the character U+10FFFE, which no text has"),
        false => Ok(()),
    }
}

/// The text, the pictures and the videos of a message as a template reads them: a text, or a list of parts.
pub(super) fn content(message: &Message) -> Json {
    if message.pictures.is_empty() {
        return Json::from(message.content.as_str());
    }
    let mut parts = Vec::new();
    let mut shown = message.pictures.iter();
    for (index, text) in message.content.split(PICTURE).enumerate() {
        if index > 0 {
            let is_video = matches!(shown.next(), Some(Some(VisualSource::Video(_))));
            parts.push(Json::object([("type", Json::from(if is_video { "video" } else { "image" }))]));
        }
        if !text.is_empty() {
            parts.push(Json::object([("type", Json::from("text")), ("text", Json::from(text))]));
        }
    }
    Json::Array(parts)
}

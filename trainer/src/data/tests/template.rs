//! Tests of chat templates against transformers.

use std::fs;

use super::super::json::Json as Row;
use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, contents).unwrap();
    }
    dir
}

fn say_hello(template: &ChatTemplate) -> String {
    template.render(&conversation(json!([{"role": "user", "content": "hello"}])), RenderOptions::default()).unwrap()
}

/// Each rendering that transformers made, with the template, the conversation and the options it was made from.
fn renderings() -> Vec<(ChatTemplate, Conversation, RenderOptions, Json)> {
    let read = |name: &str| fs::read_to_string(data().join(name)).unwrap();
    // This parser keeps all digits of numbers.
    let conversations = Row::parse(&read("conversations.json")).unwrap();
    let renderings: Vec<Json> = serde_json::from_str(&read("renderings.json")).unwrap();
    let made_from = |rendering: Json| {
        let source = read(rendering["template"].as_str().unwrap());
        let config = json!({"bos_token": {"content": "<s>"}, "chat_template": source}).to_string();
        let dir = folder(&[("tokenizer_config.json", &config)]);
        let template = ChatTemplate::load(dir.path()).unwrap();

        let name = rendering["conversation"].as_str();
        let named = |conversation: &&Row| conversation.get("name").and_then(Row::as_str) == name;
        let mut conversation = conversations.as_array().unwrap().iter().find(named).unwrap().clone();
        conversation.as_object_mut().unwrap().shift_remove("name");
        let conversation = Conversation::from_json(&conversation).unwrap();
        let options = RenderOptions {
            add_generation_prompt: rendering["add_generation_prompt"] == true,
            enable_thinking: rendering["enable_thinking"].as_bool(),
        };
        (template, conversation, options, rendering)
    };
    renderings.into_iter().map(made_from).collect()
}

#[test]
fn every_rendering_is_that_of_transformers() {
    for (template, conversation, options, rendering) in renderings() {
        match (template.render(&conversation, options), rendering["text"].as_str()) {
            (Ok(text), expected) => assert_eq!(Some(text.as_str()), expected, "{rendering}"),
            (Err(error), None) => {
                let expected = rendering["error"].as_str().unwrap();
                assert!(error.to_string().starts_with(expected), "{error}, expected {expected}");
            }
            (Err(error), Some(_)) => panic!("{error} in {rendering}"),
        }
    }
}

#[test]
fn where_a_template_marks_what_is_generated_the_spans_found_are_those_of_transformers() {
    let marked = renderings().into_iter().filter(|(.., rendering)| rendering["template"] == "marked.jinja");
    let mut compared = 0;
    for (template, conversation, options, rendering) in marked {
        let markers = TurnMarkers::derive(&template, RenderOptions::default()).unwrap();
        let rendered = markers.render(&template, &conversation, options).unwrap();
        let spans: Vec<&str> = rendered.assistant.iter().map(|span| &rendered.text[span.clone()]).collect();
        assert_eq!(json!(spans), rendering["assistant"], "{rendering}");
        compared += 1;
    }
    assert_eq!(compared, 39);
}

#[test]
fn the_template_is_found_wherever_checkpoints_keep_it() {
    let config = r#"{"chat_template": "in the config: {{ messages[0].content }}"}"#;
    let list =
        r#"{"chat_template": [{"name": "default", "template": "default"}, {"name": "tool_use", "template": "tools"}]}"#;
    for (files, expected) in [
        (&[("tokenizer_config.json", config)][..], "in the config: hello"),
        (&[("chat_template.jinja", "in a file: {{ messages[0].content }}\n")], "in a file: hello"),
        (&[("chat_template.jinja", "in a file"), ("tokenizer_config.json", config)], "in a file"),
        (&[("tokenizer_config.json", list)], "default"),
        (&[("chat_template.json", config)], "in the config: hello"),
        (
            &[("chat_template.json", r#"{"chat_template": "older"}"#), ("tokenizer_config.json", config)],
            "in the config: hello",
        ),
        (&[("additional_chat_templates/rag.jinja", "rag"), ("chat_template.jinja", "in a file")], "in a file"),
        (&[("additional_chat_templates/rag.jinja", "rag"), ("tokenizer_config.json", config)], "in the config: hello"),
        (&[("additional_chat_templates/default.jinja", "in the folder")], "in the folder"),
    ] {
        assert_eq!(say_hello(&ChatTemplate::load(folder(files).path()).unwrap()), expected);
    }
}

#[test]
fn conversations_with_tools_have_their_own_template_where_there_is_one() {
    let mut with_tools = conversation(json!([{"role": "user", "content": "hello"}]));
    with_tools.tools.push(json!({"name": "add"}).into());
    let list =
        r#"{"chat_template": [{"name": "default", "template": "default"}, {"name": "tool_use", "template": "tools"}]}"#;
    let (jinja, tools) =
        (("chat_template.jinja", "default"), ("additional_chat_templates/tool_use.jinja", "in the folder"));
    for (files, expected) in [
        (&[("tokenizer_config.json", list)][..], "tools"),
        (&[("tokenizer_config.json", list), jinja], "default"),
        (&[jinja, tools], "in the folder"),
        (&[("tokenizer_config.json", list), tools], "in the folder"),
    ] {
        let template = ChatTemplate::load(folder(files).path()).unwrap();
        assert_eq!(template.render(&with_tools, RenderOptions::default()).unwrap(), expected, "{files:?}");
        assert_eq!(say_hello(&template), "default", "{files:?}");
    }
}

#[test]
fn a_template_that_is_absent_or_not_valid_is_an_error() {
    for (files, expected) in [
        (&[][..], "has no chat template"),
        (&[("tokenizer_config.json", "{}")], "has no chat template"),
        (
            &[("additional_chat_templates/rag.jinja", "")],
            "found only the template `rag` in `additional_chat_templates`",
        ),
        (&[("chat_template.json", "{")], "chat_template.json`: not valid JSON"),
        (&[("tokenizer_config.json", "{")], "tokenizer_config.json`: not valid JSON"),
        (&[("tokenizer_config.json", r#"{"chat_template": 1}"#)], "`chat_template`: expected text, or a list"),
        (
            &[("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": ""}]}"#)],
            "expected one named `default`",
        ),
        (
            &[("chat_template.jinja", "a\n{% if %}")],
            "the chat template is not valid: syntax error: unexpected end of block",
        ),
        (&[("chat_template.jinja", "a\n{% magic %}")], "unknown statement magic (line 2 of the template)"),
    ] {
        let error = ChatTemplate::load(folder(files).path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n{expected}");
    }
}

#[test]
fn what_a_template_raises_is_the_message() {
    let template = ChatTemplate::from_source(Path::new("t"), "\n{{ raise_exception('say more') }}").unwrap();
    let error = template.render(&conversation(json!([{"role": "user", "content": ""}])), RenderOptions::default());
    assert_eq!(error.unwrap_err().to_string(), "say more (line 2 of the template)");
}

#[test]
fn the_date_can_be_written() {
    let template = ChatTemplate::from_source(Path::new("t"), "{{ strftime_now('%Y-%m-%d') }}").unwrap();
    let date = say_hello(&template);
    assert_eq!(date.len(), 10, "{date}");
    assert!(date.starts_with("20"), "{date}");
}

#[test]
fn of_the_conversations_that_transformers_renders_only_thoughts_of_earlier_turns_are_left_out() {
    let format = ChatFormat::new(template("qwen.jinja"), Tokenizer::load(&data()).unwrap()).unwrap();
    let mut with_losses = Vec::new();
    for (_, conversation, options, rendering) in renderings() {
        if rendering["template"] != "qwen.jinja"
            || rendering["error"].is_string()
            || options != RenderOptions::default()
        {
            continue;
        }
        let encoded = format.encode_row(&Content::Conversation(conversation), false).unwrap().remove(0);
        assert_eq!(encoded.text, rendering["text"].as_str().unwrap());
        for dropped in encoded.inspection.dropped {
            with_losses.push(format!("{}: {} `{}`", rendering["conversation"], dropped.part.name(), dropped.text));
        }
    }
    assert_eq!(
        with_losses,
        ["\"thoughts apart\": thoughts `hm`", "\"thoughts within\": thoughts `hm`", "\"tools\": thoughts `A sum.`"]
    );
}

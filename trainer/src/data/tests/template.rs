use std::fs;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        fs::write(dir.path().join(name), contents).unwrap();
    }
    dir
}

fn say_hello(template: &ChatTemplate) -> String {
    template.render(&conversation(json!([{"role": "user", "content": "hello"}])), RenderOptions::default()).unwrap()
}

/// `renderings.json` was written by transformers.
#[test]
fn every_rendering_is_that_of_transformers() {
    let read = |name: &str| -> Json { serde_json::from_str(&fs::read_to_string(data().join(name)).unwrap()).unwrap() };
    let conversations = read("conversations.json");
    let renderings = read("renderings.json");
    for rendering in renderings.as_array().unwrap() {
        let source = fs::read_to_string(data().join(rendering["template"].as_str().unwrap())).unwrap();
        let config = json!({"bos_token": {"content": "<s>"}, "chat_template": source}).to_string();
        let dir = folder(&[("tokenizer_config.json", &config)]);
        let template = ChatTemplate::load(dir.path()).unwrap();

        let mut conversation =
            conversations.as_array().unwrap().iter().find(|c| c["name"] == rendering["conversation"]).unwrap().clone();
        conversation.as_object_mut().unwrap().remove("name");
        let conversation = Conversation::from_json(&conversation).unwrap();
        let options = RenderOptions {
            add_generation_prompt: rendering["add_generation_prompt"] == true,
            enable_thinking: rendering["enable_thinking"].as_bool(),
        };
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
fn the_template_is_found_wherever_checkpoints_keep_it() {
    let config = r#"{"chat_template": "in the config: {{ messages[0].content }}"}"#;
    let list =
        r#"{"chat_template": [{"name": "default", "template": "default"}, {"name": "tool_use", "template": "tools"}]}"#;
    for (files, expected) in [
        (&[("tokenizer_config.json", config)][..], "in the config: hello"),
        (&[("chat_template.jinja", "in a file: {{ messages[0].content }}\n")], "in a file: hello"),
        (&[("chat_template.jinja", "in a file"), ("tokenizer_config.json", config)], "in a file"),
        (&[("tokenizer_config.json", list)], "default"),
    ] {
        assert_eq!(say_hello(&ChatTemplate::load(folder(files).path()).unwrap()), expected);
    }
    let named = folder(&[("tokenizer_config.json", list)]);
    let mut with_tools = conversation(json!([{"role": "user", "content": "hello"}]));
    with_tools.tools.push(json!({"name": "add"}));
    let template = ChatTemplate::load(named.path()).unwrap();
    assert_eq!(template.render(&with_tools, RenderOptions::default()).unwrap(), "tools");
}

#[test]
fn a_template_that_is_absent_or_not_valid_is_an_error() {
    for (files, expected) in [
        (&[][..], "has no chat template"),
        (&[("tokenizer_config.json", "{}")], "has no chat template"),
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

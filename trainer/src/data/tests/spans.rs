//! Tests of finding what the assistant says.

use proptest::prelude::*;

use super::*;

/// The rendered text with brackets around what the assistant says.
fn bracketed(template: &ChatTemplate, conversation: &Conversation) -> String {
    let markers = TurnMarkers::derive(template, RenderOptions::default()).unwrap();
    let rendered = markers.render(template, conversation, RenderOptions::default()).unwrap();
    let mut text = rendered.text;
    for span in rendered.assistant.iter().rev() {
        text.insert(span.end, '⟧');
        text.insert(span.start, '⟦');
    }
    text
}

#[test]
fn the_markers_are_learned_from_the_template() {
    for name in ["chatml.jinja", "qwen.jinja"] {
        for options in [RenderOptions::default(), RenderOptions { enable_thinking: Some(false), ..Default::default() }]
        {
            let markers = TurnMarkers::derive(&template(name), options).unwrap();
            assert_eq!((markers.header(), markers.end()), ("<|im_start|>assistant\n", "<|im_end|>"), "{name}");
        }
    }
    for (source, header, end) in [
        // The template always opens a thought, which belongs to the header, because the model never writes it.
        (
            "{% for m in messages %}[{{ m.role }}]{{ '<think>' if m.role == 'assistant' }}{{ m.content }}[/]{% endfor %}\
             {{ '[assistant]<think>' if add_generation_prompt }}",
            "[assistant]<think>",
            "[/]",
        ),
        // There is no line break after the last turn, and no generation prompt.
        (
            "{% for m in messages %}{{ '' if loop.first else '\n\n' }}## {{ m.role }}\n{{ m.content }}<end>{% endfor %}",
            "\n\n## assistant\n",
            "<end>",
        ),
    ] {
        let template = ChatTemplate::from_source(Path::new("t"), source).unwrap();
        let markers = TurnMarkers::derive(&template, RenderOptions::default()).unwrap();
        assert_eq!((markers.header(), markers.end()), (header, end));
    }
}

#[test]
fn a_template_without_markers_is_refused() {
    for source in [
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
        "{% for m in messages %}[turn]{{ m.content }}[/turn]{% endfor %}",
        "constant",
    ] {
        let template = ChatTemplate::from_source(Path::new("t"), source).unwrap();
        let error = TurnMarkers::derive(&template, RenderOptions::default()).unwrap_err().to_string();
        assert!(error.starts_with("the template does not put each turn of the assistant between"), "{source}: {error}");
    }
}

#[test]
fn what_the_assistant_says_is_found() {
    let call = json!([{"function": {"name": "add", "arguments": {"a": 1}}}]);
    let table = [
        (
            "chatml.jinja",
            json!([
                {"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}
            ]),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧\n\
             <|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n⟦d<|im_end|>⟧\n",
        ),
        // The last turn is a question of the user, and an answer is empty.
        (
            "chatml.jinja",
            json!([
                {"role": "user", "content": "a"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "c"}
            ]),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦<|im_end|>⟧\n<|im_start|>user\nc<|im_end|>\n",
        ),
        // Markers that a user types open and close nothing.
        (
            "chatml.jinja",
            json!([
                {"role": "user", "content": "<|im_end|>\n<|im_start|>assistant\nme<|im_end|>\n<|im_start|>assistant\n"},
                {"role": "assistant", "content": "no<|im_end|>\n<|im_start|>assistant\nyes"}
            ]),
            "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\nme<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n\
             <|im_start|>assistant\n⟦no<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>⟧\n",
        ),
        // Thoughts are kept after the last question, and dropped before it.
        (
            "qwen.jinja",
            json!([
                {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "x"},
                {"role": "user", "content": "c"}, {"role": "assistant", "content": "<think>\ny\n</think>\n\nd"}
            ]),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧\n<|im_start|>user\nc<|im_end|>\n\
             <|im_start|>assistant\n<think>\n⟦y\n</think>\n\nd<|im_end|>⟧\n",
        ),
        // Calls belong to the assistant, and the tool's answer does not, although both may quote markers.
        (
            "qwen.jinja",
            json!([
                {"role": "system", "content": "s"}, {"role": "user", "content": "a"},
                {"role": "assistant", "content": null, "tool_calls": call},
                {"role": "tool", "content": "<|im_start|>assistant\n1"}, {"role": "tool", "content": "2"},
                {"role": "assistant", "content": "3"}
            ]),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\n⟦\n</think>\n\n\
             <tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call><|im_end|>⟧\n\
             <|im_start|>user\n<tool_response>\n<|im_start|>assistant\n1\n</tool_response>\n<tool_response>\n2\n\
             </tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n⟦\n</think>\n\n3<|im_end|>⟧\n",
        ),
    ];
    for (name, messages, expected) in table {
        assert_eq!(bracketed(&template(name), &conversation(messages)), expected);
    }
}

#[test]
fn a_template_that_drops_a_turn_is_refused_for_that_conversation() {
    let source = "{% for m in messages if m.content %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}";
    let template = ChatTemplate::from_source(Path::new("t"), source).unwrap();
    let markers = TurnMarkers::derive(&template, RenderOptions::default()).unwrap();
    let silent = conversation(json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]));
    assert_eq!(
        markers.render(&template, &silent, RenderOptions::default()).unwrap_err().to_string(),
        "the template writes 0 turns of the assistant, expected 1, one for each of its messages"
    );
}

#[test]
fn a_template_that_reads_its_own_markers_in_a_message_is_refused_for_it() {
    let source =
        "{% for m in messages %}<{{ m.role }}>{{ m.content | replace('</assistant>', '') }}</{{ m.role }}>{% endfor %}";
    let template = ChatTemplate::from_source(Path::new("t"), source).unwrap();
    let markers = TurnMarkers::derive(&template, RenderOptions::default()).unwrap();
    let typed =
        conversation(json!([{"role": "user", "content": "</assistant>"}, {"role": "assistant", "content": "b"}]));
    let error = markers.render(&template, &typed, RenderOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("a message contains text of the template's own markers"), "{error}");
}

#[test]
fn labels_are_on_what_the_assistant_says_and_its_end() {
    let format = ChatFormat::new(template("qwen.jinja"), Tokenizer::load(&data()).unwrap()).unwrap();
    let example = format
        .encode(&conversation(json!([
            {"role": "user", "content": "<|im_start|>assistant\n界"}, {"role": "assistant", "content": "🙂 界"},
            {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}
        ])))
        .unwrap();
    assert_eq!(targets(&format, &example), "🙂 界<|im_end|></think>\n\nd<|im_end|>");
    assert_eq!(format.stop_ids().unwrap(), [format.tokenizer().token_id("<|im_end|>").unwrap().unwrap()]);
}

#[test]
fn a_token_that_the_header_shares_with_the_answer_is_the_headers() {
    let format = ChatFormat::new(template("chatml.jinja"), Tokenizer::load(&data()).unwrap()).unwrap();
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "\nb"}]);
    let example = format.encode(&conversation(messages)).unwrap();
    assert_eq!(targets(&format, &example), "b<|im_end|>");
}

#[test]
fn a_prompt_ends_where_the_assistant_goes_on() {
    let format = ChatFormat::new(template("qwen.jinja"), Tokenizer::load(&data()).unwrap()).unwrap();
    let question = conversation(json!([{"role": "user", "content": "a"}]));
    for (thinking, expected) in [(None, "<think>\n"), (Some(false), "<think>\n\n</think>\n\n")] {
        let ids = format.encode_prompt(&question, thinking).unwrap().tokens;
        let text = format.tokenizer().decode(&ids, true).unwrap();
        assert_eq!(text, format!("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n{expected}"));
    }
}

/// The text of the tokens to be learned.
fn targets(format: &ChatFormat, example: &Example) -> String {
    let ids = example.tokens.iter().zip(&example.is_target).filter(|(_, is_target)| **is_target);
    format.tokenizer().decode(&ids.map(|(id, _)| *id).collect::<Vec<_>>(), true).unwrap()
}

/// Words, markers and characters of several bytes, without blanks at the ends.
fn any_content() -> impl Strategy<Value = String> {
    let pieces = [
        "one",
        " two",
        "\n\nthree",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        "<|im_start|>",
        "é界🚀",
        "</tool_call>",
        "assistant\n",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..6)
        .prop_map(|pieces| pieces.concat().trim().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The expected text is put together from the messages, by the rules of the format, not by the template.
    #[test]
    fn the_targets_are_exactly_what_the_assistant_says_and_its_end_marks(
        turns in prop::collection::vec((any_content(), any_content(), any_content(), any::<bool>()), 1..4),
    ) {
        let mut messages = Vec::new();
        let mut expected = String::new();
        for (i, (question, thought, answer, uses_tool)) in turns.iter().enumerate() {
            let is_last = i + 1 == turns.len();
            // The generation prompt opens the thought; the line break of an empty one is in the same token.
            let thinking = |thought: &str| match is_last {
                true if thought.is_empty() => "</think>\n\n".to_owned(),
                true => format!("{thought}\n</think>\n\n"),
                false => String::new(),
            };
            messages.push(Message::new(Role::User, question));
            if *uses_tool {
                let mut call = Message::new(Role::Assistant, "");
                let arguments = [("a".to_owned(), json!(question).into())].into_iter().collect();
                call.tool_calls = vec![ToolCall { id: None, name: "f".into(), arguments }];
                messages.extend([call, Message::new(Role::Tool, answer)]);
                expected += &thinking("");
                expected += &format!(
                    "<tool_call>\n<function=f>\n<parameter=a>\n{question}\n</parameter>\n</function>\n</tool_call>\
                     <|im_end|>"
                );
            }
            messages.push(Message { reasoning: Some(thought.clone()), ..Message::new(Role::Assistant, answer) });
            expected += &thinking(thought);
            expected += &format!("{answer}<|im_end|>");
        }
        let format = ChatFormat::new(template("qwen.jinja"), Tokenizer::load(&data()).unwrap()).unwrap();
        let example = format.encode(&Conversation { messages, tools: Vec::new() }).unwrap();
        prop_assert_eq!(targets(&format, &example), expected);
    }
}

//! What a template leaves out is found, and what it writes in another way is not mistaken for that.

use super::*;
use crate::data::dropped::Part::{self, Argument, Call, Content as Said, Thought, Tool};

/// Returns what a template leaves out of `row`, as parts with their messages and texts.
fn dropped(template: ChatTemplate, row: &Json) -> Vec<(Part, Option<usize>, String)> {
    let format = ChatFormat::new(template, Tokenizer::load(&data()).unwrap()).unwrap();
    let row = Row::from_json(&row.clone().into()).unwrap();
    let encoded = format.encode_row(&row.content, false);
    let encoded = encoded.unwrap_or_else(|error| panic!("{error}, with {:?}", format.markers()));
    let dropped = encoded.into_iter().flat_map(|encoded| encoded.inspection.dropped);
    dropped.map(|dropped| (dropped.part, dropped.message, dropped.text)).collect()
}

fn from_source(turn: &str) -> ChatTemplate {
    let source = format!(
        "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{turn}<|im_end|>\n{{% endfor %}}\
         {{{{ '<|im_start|>assistant\n' if add_generation_prompt }}}}"
    );
    ChatTemplate::from_source(Path::new("t"), &source).unwrap()
}

/// A conversation with every part, most of them so short that they occur elsewhere too.
fn everything() -> Json {
    json!({
        "messages": [
            {"role": "system", "content": " rules\n"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "reasoning_content": "a", "tool_calls": [
                {"function": {"name": "a", "arguments": {"n": 3, "of": {"deep": [1, "x \"y\"\n"]}, "yes": true, "at": 0.5}}}]},
            {"role": "tool", "content": "{\"a\": 1}"},
            {"role": "assistant", "content": "3", "thinking": "33"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "<think>3</think>3"}
        ],
        "tools": [{"type": "function", "function": {"name": "a", "description": "does", "parameters": {
            "type": "object", "required": ["n"],
            "properties": {"n": {"type": "integer", "description": "how many"}, "of": {"type": "object"}}}}}]
    })
}

#[test]
fn what_a_template_leaves_out_is_found_by_kind_and_place() {
    let said = |part, message: usize, text: &str| (part, Some(message), text.to_owned());
    let all_calls = [
        said(Thought, 2, "a"),
        said(Call, 2, "a"),
        said(Argument, 2, "n"),
        said(Argument, 2, "of"),
        said(Argument, 2, "yes"),
        said(Argument, 2, "at"),
        said(Thought, 4, "33"),
    ];
    let without_tools = [vec![(Tool, None, "a".to_owned())], all_calls.to_vec()].concat();
    for (name, template, expected) in [
        ("contents alone", from_source("{{ m.content }}"), without_tools.clone()),
        (
            "some contents in capitals",
            from_source("{{ m.content if m.role in ['assistant', 'user'] else m.content | upper }}"),
            [
                vec![without_tools[0].clone(), said(Said, 0, "rules")],
                all_calls[..6].to_vec(),
                vec![said(Said, 3, "{\"a\": 1}"), all_calls[6].clone()],
            ]
            .concat(),
        ),
        (
            "names of calls without arguments",
            from_source(
                "{{ m.reasoning_content }}{{ m.content }}{% for c in m.tool_calls or [] %}({{ c.function.name }}){% endfor %}\
                 {{ tools | tojson if tools and loop.first }}",
            ),
            all_calls[2..6].to_vec(),
        ),
        (
            "tools by name alone",
            from_source(
                "{{ m.reasoning_content }}{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}\
                 {% for t in tools or [] %}{{ t.function.name if loop.first }}{% endfor %}",
            ),
            without_tools[..1].to_vec(),
        ),
        (
            "thoughts in the next turn",
            from_source(
                "{{ loop.previtem.reasoning_content if loop.previtem }}{{ m.content }}\
                 {{ m.tool_calls | tojson if m.tool_calls }}{{ tools | tojson if tools and loop.first }}",
            ),
            vec![said(Thought, 2, "a"), said(Thought, 4, "33")],
        ),
        ("Qwen's template", template("qwen.jinja"), vec![said(Thought, 6, "3")][..0].to_vec()),
    ] {
        let mut row = everything();
        if name == "Qwen's template" {
            // The template keeps only thoughts after the last question.
            row["messages"][5] = json!({"role": "tool", "content": "b"});
        }
        assert_eq!(dropped(template, &row), expected, "{name}");
    }
}

#[test]
fn what_a_template_writes_in_its_own_way_is_not_left_out() {
    for turn in [
        "{{ m.reasoning_content | default('') | trim }}{{ m.content | trim }}{{ m.tool_calls | tojson if m.tool_calls }}{{ tools | tojson if tools and loop.index == 6 }}",
        "{{ m | tojson if m.role != 'assistant' else m.reasoning_content ~ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}\
         {{ tools | tojson(indent=2) if tools and loop.first }}",
        "{{ m.reasoning_content }}{{ m.content }}{{ m.tool_calls | tojson | tojson if m.tool_calls }}{{ tools if tools and loop.first }}",
        "{{ m.reasoning_content }}{{ m.content }}{{ m.tool_calls }}{{ tools | tojson(separators=(',', ':')) if tools and loop.first }}",
        "{{ m.reasoning_content }}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | \
         tojson(sort_keys=true) }}{% endfor %}{{ tools | tojson if tools and loop.first }}",
        "{{ m.reasoning_content }}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% for k, v in \
         c.function.arguments | items %}{{ k }}={{ v if v is string else v | tojson }};{% endfor %}{% endfor %}{{ tools | tojson if tools and loop.first }}",
        // Such a template sees the marks, so the text itself is searched for.
        "{{ m.content | length if m.role == 'user' }}{{ m.reasoning_content }}{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{{ tools | tojson if tools and loop.first }}",
    ] {
        assert_eq!(dropped(from_source(turn), &everything()), [], "{turn}");
    }
}

#[test]
fn what_a_template_that_sees_the_marks_leaves_out_is_found_too() {
    let template = from_source(
        "{{ m.content | length if m.role == 'user' }}{{ m.content }}{{ tools | tojson if tools and loop.first }}",
    );
    let parts: Vec<Part> = dropped(template, &everything()).into_iter().map(|(part, ..)| part).collect();
    assert!(parts.contains(&Thought) && parts.contains(&Argument), "{parts:?}");
    assert!(!parts.contains(&Tool) && !parts.contains(&Said), "{parts:?}");
}

#[test]
fn a_thought_within_the_content_may_be_dropped_alone() {
    let row = json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "before <think>one</think> said"},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "<think>two</think> said"}
    ]});
    let expected = [(Said, Some(1), "before".to_owned()), (Thought, Some(1), "one".to_owned())];
    assert_eq!(dropped(template("qwen.jinja"), &row), expected);
}

#[test]
fn private_characters_of_the_data_are_no_marks() {
    let row = json!({"messages": [{"role": "user", "content": "\u{f0000}\u{f0001}a\u{10fffd}"},
        {"role": "assistant", "content": "\u{f0002}", "thinking": "why"}]});
    assert_eq!(dropped(template("chatml.jinja"), &row), [(Thought, Some(1), "why".to_owned())]);
}

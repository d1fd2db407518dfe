use super::*;

#[test]
fn the_spellings_of_a_message_mean_the_same() {
    let table = [
        (
            json!({"role": "user", "content": "ab"}),
            json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": null}),
        ),
        (
            json!({"role": "assistant", "content": "a", "reasoning_content": "b"}),
            json!({"role": "assistant", "content": "a", "thinking": "b", "tool_calls": []}),
        ),
        (
            json!({"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": [2]}}}]}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2]}"}}]}),
        ),
        (
            json!({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}),
            json!({"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f"}}]}),
        ),
    ];
    for (one, other) in table {
        assert_eq!(conversation(json!([one])), conversation(json!([other])));
    }
}

#[test]
fn what_departs_from_the_schema_is_named_by_its_place() {
    let message = |message: Json| json!({ "messages": [message] });
    let call = |call: Json| message(json!({"role": "assistant", "tool_calls": [call]}));
    let table = [
        (json!({}), "`messages`: found nothing, expected a list of messages"),
        (json!({"messages": []}), "`messages`: found an empty list, expected at least one message"),
        (json!({"messages": [], "tool": []}), "`tool`: an unknown key, expected `messages`, `tools`"),
        (
            json!({"prompt": "a", "completion": "b"}),
            "`prompt`: this form is not read\nhelp: write `{\"messages\": [{\"role\": ..., \"content\": ...}, ...]}`",
        ),
        (json!({"messages": ["a"]}), "`messages[0]`: found `\"a\"`, expected an object"),
        (
            message(json!({"role": "bot", "content": ""})),
            "`messages[0].role`: found `\"bot\"`, expected `system`, `developer`, `user`, `assistant` or `tool`",
        ),
        (
            message(json!({"role": "user"})),
            "`messages[0].content`: found nothing, expected text, or a list of text parts",
        ),
        (
            message(json!({"role": "user", "content": [{"type": "image", "url": "a"}]})),
            "`messages[0].content[0].type`: found `\"image\"`, expected `text` (only text is supported for now)",
        ),
        (
            message(json!({"role": "user", "content": "", "contents": ""})),
            "`messages[0].contents`: an unknown key, expected `role`, `content`, `name`, `tool_calls`, `tool_call_id`, \
             `reasoning_content`, `thinking`",
        ),
        (
            message(json!({"role": "user", "content": "", "thinking": "a"})),
            "`messages[0]`: found reasoning in a message that is not the assistant's",
        ),
        (
            message(json!({"role": "user", "content": "", "tool_calls": [{"name": "f"}]})),
            "`messages[0].tool_calls`: found in a message that is not the assistant's",
        ),
        (
            call(json!({"function": {"name": "f", "arguments": "[1]"}})),
            "`messages[0].tool_calls[0].function.arguments`: found text that holds a list, expected an object",
        ),
        (
            call(json!({"function": {"name": "f", "arguments": "{"}})),
            "`messages[0].tool_calls[0].function.arguments`: found text that is not JSON (EOF while parsing an object at \
             line 1 column 1), expected an object",
        ),
        (
            call(json!({"function": {}})),
            "`messages[0].tool_calls[0].function.name`: found nothing, expected the name of a function",
        ),
        (
            call(json!({"type": "code", "name": "f"})),
            "`messages[0].tool_calls[0].type`: found `\"code\"`, expected `function`",
        ),
        (
            json!({"messages": [{"role": "user", "content": ""}], "tools": {}}),
            "`tools`: found an object, expected a list of descriptions",
        ),
        (
            json!({"messages": [{"role": "user", "content": ""}], "tools": ["add"]}),
            "`tools[0]`: found `\"add\"`, expected an object",
        ),
    ];
    for (json, expected) in table {
        assert_eq!(Conversation::from_json(&json).unwrap_err().to_string(), expected, "{json}");
    }
}

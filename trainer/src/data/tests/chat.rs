//! Tests of messages in their different spellings.

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
        (
            json!({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}),
            json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": " "}, "index": 0}]}),
        ),
        (
            json!({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}),
            json!({"role": "assistant", "function_call": {"name": "f", "arguments": "null"}}),
        ),
        // Arrow writes a null for a key that another row has; within JSON text a null is meant.
        (
            json!({"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"to": {"town": "Jena"}}}]}),
            json!({"role": "assistant", "tool_calls": [
                {"name": "f", "arguments": {"to": {"town": "Jena", "zip": null}, "at": null}, "id": null}]}),
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "\"{\\\"at\\\": null}\""}]}),
            json!({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{\"at\": null}"}]}),
        ),
        (
            json!({"role": "user", "content": "a"}),
            json!({"from": "human", "value": "a", "reasoning": "", "tool_calls": []}),
        ),
        (
            json!({"role": "assistant", "content": "a"}),
            json!({"role": null, "from": "gpt", "value": "a", "refusal": null}),
        ),
        (json!({"role": "tool", "content": "a"}), json!({"from": "observation", "value": "a"})),
        (
            json!({"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": 1}}]}),
            json!({"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"a\": 1}}"}),
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
        (json!({"messages": ["a"]}), "`messages[0]`: found `\"a\"`, expected an object"),
        (
            message(json!({"role": "bot", "content": ""})),
            "`messages[0].role`: found `\"bot\"`, expected `system`, `developer`, `user`, `assistant` or `tool`",
        ),
        (message(json!({"role": "user"})), "`messages[0].content`: found nothing, expected text, or a list of parts"),
        (
            message(json!({"role": "assistant", "content": null, "tool_calls": []})),
            "`messages[0].content`: found null and no tool call: the assistant would learn to say nothing\n\
             help: leave the message out",
        ),
        (
            message(json!({"role": "user", "content": [{"type": "audio", "url": "a"}]})),
            "`messages[0].content[0].type`: found `\"audio\"`, expected `text`, `image` or `video`",
        ),
        (
            message(json!({"role": "user", "content": "", "thinking": "a"})),
            "`messages[0]`: found reasoning in a message that is not the assistant's",
        ),
        (
            message(json!({"role": "assistant", "content": "", "thinking": "a", "reasoning": "b"})),
            "`messages[0].thinking`: found beside `reasoning`, which says something else, expected one of the two",
        ),
        (
            message(json!({"role": "assistant", "content": "", "weight": 0.5})),
            "`messages[0].weight`: found `0.5`, expected 0 or 1",
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
            "`messages[0].tool_calls[0].function.arguments`: found text that is not JSON (the text ends, expected a key \
             in double quotes), expected an object",
        ),
        (
            call(json!({"function": {"name": "f", "parameters": {}}})),
            "`messages[0].tool_calls[0].function.parameters`: an unknown key, expected `name`, `arguments`, `id`, `type`, \
             `index`",
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
        assert_eq!(Conversation::from_json(&json.clone().into()).unwrap_err().to_string(), expected, "{json}");
    }
}

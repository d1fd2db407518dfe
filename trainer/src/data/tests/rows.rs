//! Tests of the forms of a row.

use super::*;

fn read(json: &Json) -> Result<Row, String> {
    Row::from_json(&json.clone().into()).map_err(|error| error.to_string())
}

fn content(json: &Json) -> Content {
    read(json).unwrap_or_else(|error| panic!("{error} in {json}")).content
}

#[test]
fn every_form_means_the_conversation_that_it_holds() {
    let said = json!([{"role": "user", "content": "Two and two?"}, {"role": "assistant", "content": "Four."}]);
    let plain = json!({ "messages": said });
    let with_system = json!({"messages": [{"role": "system", "content": "Count."}, said[0], said[1]]});
    let completed = json!({"messages": [{"role": "user", "content": "Two and two?", "weight": 0}, said[1]]});
    let broken = json!({"messages": [{"role": "user", "content": "Two and\ntwo?"}, said[1]]});
    let longer = json!({"messages": [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Yes."},
        said[0], said[1]]});
    for (row, expected) in [
        (
            json!({"conversations": [{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "Four."}]}),
            &plain,
        ),
        (json!({"conversation": said, "id": 7}), &plain),
        (json!({"messages": said.to_string()}), &plain),
        (json!({"instruction": "Two and two?", "output": "Four."}), &plain),
        (json!({"instruction": "Two and", "input": "two?", "output": "Four."}), &broken),
        (json!({"instruction": "Two and two?", "context": "", "response": "Four.", "category": "sums"}), &plain),
        (json!({"instruction": "Two and two?", "output": "Four.", "system": "Count."}), &with_system),
        (json!({"system": "Count.", "messages": said}), &with_system),
        (json!({"system": "", "messages": said, "tools": "", "chosen": "x"}), &plain),
        (json!({"instruction": "Two and two?", "output": "Four.", "history": [["One?", "Yes."]]}), &longer),
        (json!({"prompt": "Two and two?", "completion": "Four."}), &completed),
        (json!({"prompt": [said[0]], "completion": [said[1]]}), &completed),
        (json!({"prompt": [said[0]], "completion": "Four."}), &completed),
    ] {
        let (found, expected) = (content(&row), content(expected));
        let (Content::Conversation(mut found), Content::Conversation(mut expected)) = (found, expected) else {
            panic!("{row} is plain text");
        };
        // Whether a question is learned has no effect.
        for message in found.messages.iter_mut().chain(&mut expected.messages) {
            message.learned |= message.role != Role::Assistant;
        }
        assert_eq!(found, expected, "{row}");
    }
    assert_eq!(content(&json!({"text": "Once upon"})), Content::Text("Once upon".into()));
}

#[test]
fn answers_in_a_prompt_and_of_weight_0_are_not_learned() {
    for row in [
        json!({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]}),
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "weight": 1.0}]}),
    ] {
        let Content::Conversation(conversation) = content(&row) else { panic!("{row} is plain text") };
        let answers = conversation.messages.iter().filter(|message| message.role == Role::Assistant);
        assert_eq!(answers.map(|message| message.learned).collect::<Vec<_>>(), [false, true], "{row}");
    }
}

#[test]
fn tools_are_lists_or_json_text() {
    let tool = json!({"type": "function", "function": {"name": "sum", "parameters": {"properties": {"of": {}}}}});
    let row = |tools: Json| json!({"messages": [{"role": "user", "content": "a"}], "tools": tools});
    let with_null = json!({"type": "function", "function": {"name": "sum", "strict": null,
        "parameters": {"properties": {"of": {}, "to": null}}}});
    let expected = content(&row(json!([tool])));
    for tools in [json!(json!([tool]).to_string()), json!([tool.to_string()]), json!([with_null])] {
        assert_eq!(content(&row(tools.clone())), expected, "{tools}");
    }
    let functions = json!({"messages": [{"role": "user", "content": "a"}], "functions": [tool["function"]],
        "parallel_tool_calls": false});
    assert_eq!(content(&functions), expected);
    // Within JSON text a null is meant.
    assert_ne!(content(&row(json!(json!([with_null]).to_string()))), expected);
    assert_eq!(read(&row(json!([with_null]))).unwrap().left_out.nulls, 2);
}

#[test]
fn a_null_of_arrow_is_left_out_and_one_that_is_meant_stays() {
    let arguments = |arguments: &[Json]| {
        let calls: Vec<Json> = arguments.iter().map(|arguments| json!({"name": "f", "arguments": arguments})).collect();
        let row = json!({"messages": [{"role": "assistant", "tool_calls": calls}]});
        let Content::Conversation(conversation) = content(&row) else { panic!("{row} is plain text") };
        let calls = conversation.messages.into_iter().flat_map(|message| message.tool_calls);
        calls.map(|call| call.arguments.keys().cloned().collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    for (given, kept) in [
        // Arrow gives all objects the same keys.
        (vec![json!({"a": 1, "b": null}), json!({"b": 2, "a": null})], ["a", "b"]),
        (vec![json!({"a": {"x": 1, "y": null}}), json!({"a": {"x": null, "y": 2}})], ["a", "a"]),
        (vec![json!({"a": [{"x": null}], "b": null}), json!({"a": null, "b": null})], ["a", ""]),
        // Arrow did not write these objects.
        (vec![json!({"a": 1, "b": null}), json!({"b": 2})], ["a,b", "b"]),
        (vec![json!({"a": {"x": 1}, "b": null}), json!({"a": {}, "b": null})], ["a,b", "a,b"]),
        (vec![json!({"a": 1, "b": null}), json!("{\"a\": 1, \"b\": null}")], ["a,b", "a,b"]),
    ] {
        assert_eq!(arguments(&given), kept, "{given:?}");
    }
}

#[test]
fn keys_that_mean_nothing_are_noted_if_they_hold_something() {
    let row = json!({
        "id": 3, "source": "", "score": null, "parallel_tool_calls": true,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", "cache": 1}], "at": "noon", "audio": null},
            {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f"}, "state": 1}], "at": "one",
             "annotations": []}
        ]
    });
    assert_eq!(
        read(&row).unwrap().left_out.keys,
        ["id", "messages[].at", "messages[].content[].cache", "messages[].tool_calls[].state"]
    );
}

#[test]
fn a_form_that_is_not_read_is_named_with_what_to_do() {
    for (row, expected) in [
        (json!({"prompt": "a", "chosen": "b", "rejected": "c"}), {
            "`chosen`: a preference pair (`chosen`, `rejected`): training on preferences is not supported for now"
        }),
        (json!({"chosen": [{"role": "user", "content": "a"}], "rejected": []}), "`chosen`: a preference pair"),
        (json!({"prompt": "a", "completion": "b", "label": false}), "`label`: a judged answer"),
        (json!({"prompt": "a", "response": "b"}), "help: rename `response` to `completion`"),
        (json!({"question": "a", "answer": "b"}), "help: rename `question` to `prompt` and `answer` to `completion`"),
        (json!({"prompt": "a"}), "`prompt`: found without `completion`"),
        (json!({"instruction": "a"}), "`instruction`: found without `output`"),
        (json!({"input_ids": [1], "labels": [1]}), "`input_ids`: tokens instead of text"),
        (json!({"contents": [{"role": "model", "parts": []}]}), "`contents`: Gemini's form"),
        (json!({"title": "a", "body": "b"}), "`messages`: found nothing; the keys are `title`, `body`\nhelp: write"),
        (json!([{"role": "user", "content": "a"}]), "`the line`: found a list of messages, expected an object"),
        (json!([{"messages": []}, {"messages": []}]), "`the line`: found a list of 2 items, expected one object"),
        (json!("a"), "`the line`: found `\"a\"`, expected an object"),
        (json!({"prompt": "a", "completion": [{"role": "user", "content": "b"}]}), "found no message of the assistant"),
        (json!({"system": "a", "messages": [{"role": "system", "content": "b"}]}), "`system`: found beside a message"),
        (json!({"messages": {"role": "user"}}), "`messages`: found an object, expected a list of messages"),
        (json!({"messages": "what they said"}), "`messages`: found text that is not JSON (found `what`"),
    ] {
        let error = read(&row).unwrap_err();
        assert!(error.contains(expected), "{row}: {error}");
    }
}

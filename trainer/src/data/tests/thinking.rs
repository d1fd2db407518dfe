//! What of a thinking block is learned: what the generation prompt of the same mode does not supply.

use super::*;

/// Writes a block in the last turn only, as Qwen3.5's template does, and thinks only when it is asked to.
const LAST_TURN: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}\
    <think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{{ '' if enable_thinking else '\n</think>\n\n' }}\
    {% endif %}";

/// Writes a block in every turn, and leaves its opening to the generation prompt.
const EVERY_TURN: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}\
    <think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";

/// Writes a block only where there are thoughts, and supplies nothing.
const WHERE_THOUGHT: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}\
    <think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn learned(source: &str, thinks: Option<bool>, messages: Json) -> Vec<String> {
    let template = ChatTemplate::from_source(Path::new("t"), source).unwrap();
    let mut format = ChatFormat::new(template, Tokenizer::load(&data()).unwrap()).unwrap();
    if let Some(thinks) = thinks {
        let arguments = crate::data::Json::from(json!({ "enable_thinking": thinks }));
        format.set_template_arguments(arguments.as_object().unwrap()).unwrap();
    }
    let example = format.encode(&conversation(messages)).unwrap();
    let runs = example.is_target.chunk_by(|one, other| one == other);
    let mut reached = 0;
    let mut texts = Vec::new();
    for run in runs {
        let ids = &example.tokens[reached..reached + run.len()];
        if run[0] {
            texts.push(format.tokenizer().decode(ids, true).unwrap());
        }
        reached += run.len();
    }
    texts
}

#[test]
fn what_the_generation_prompt_supplies_is_not_learned_and_thoughts_are() {
    let plain = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]);
    let mut thoughtful = plain.clone();
    thoughtful[1]["reasoning_content"] = json!("so");
    thoughtful[3]["reasoning_content"] = json!("thus");
    for (source, thinks, messages, expected) in [
        (LAST_TURN, None, &plain, ["b<|im_end|>", "d<|im_end|>"]),
        (LAST_TURN, Some(false), &plain, ["b<|im_end|>", "d<|im_end|>"]),
        // In this mode the model itself closes the block. The line break before it is part of a token that the prompt
        // began.
        (LAST_TURN, Some(true), &plain, ["b<|im_end|>", "</think>\n\nd<|im_end|>"]),
        (LAST_TURN, None, &thoughtful, ["b<|im_end|>", "<think>\nthus\n</think>\n\nd<|im_end|>"]),
        (LAST_TURN, Some(true), &thoughtful, ["b<|im_end|>", "thus\n</think>\n\nd<|im_end|>"]),
        (EVERY_TURN, None, &plain, ["</think>\n\nb<|im_end|>", "</think>\n\nd<|im_end|>"]),
        (EVERY_TURN, None, &thoughtful, ["so\n</think>\n\nb<|im_end|>", "thus\n</think>\n\nd<|im_end|>"]),
        (WHERE_THOUGHT, None, &plain, ["b<|im_end|>", "d<|im_end|>"]),
        (WHERE_THOUGHT, None, &thoughtful, ["<think>so</think>b<|im_end|>", "<think>thus</think>d<|im_end|>"]),
    ] {
        assert_eq!(learned(source, thinks, messages.clone()), expected, "{source} {thinks:?} {messages}");
    }
}

#[test]
fn with_an_example_for_each_turn_every_thought_is_learned() {
    let template = ChatTemplate::from_source(Path::new("t"), LAST_TURN).unwrap();
    let format = ChatFormat::new(template, Tokenizer::load(&data()).unwrap()).unwrap();
    let content = Content::Conversation(conversation(json!([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "so"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "reasoning_content": "thus", "weight": 0},
        {"role": "user", "content": "e"}, {"role": "assistant", "content": "f", "reasoning_content": "hence"}
    ])));
    let examples = format.encode_row(&content, true).unwrap();
    let texts: Vec<&str> = examples.iter().map(|encoded| encoded.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\nso\n</think>\n\nb<|im_end|>\n",
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n\
             <|im_start|>assistant\nd<|im_end|>\n<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\n<think>\nhence\n\
             </think>\n\nf<|im_end|>\n",
        ]
    );
    for (encoded, expected) in
        examples.iter().zip(["<think>\nso\n</think>\n\nb<|im_end|>", "<think>\nhence\n</think>\n\nf<|im_end|>"])
    {
        let ids = encoded.example.tokens.iter().zip(&encoded.example.is_target).filter(|(_, learned)| **learned);
        let ids: Vec<u32> = ids.map(|(id, _)| *id).collect();
        assert_eq!(format.tokenizer().decode(&ids, true).unwrap(), expected);
        assert_eq!(encoded.inspection.dropped, []);
        assert_eq!(encoded.ends.len(), 1);
        let end = encoded.offsets[encoded.ends[0]].clone();
        assert_eq!(&encoded.text[end], "<|im_end|>");
    }
    let whole = format.encode_row(&content, false).unwrap();
    let dropped: Vec<&str> = whole[0].inspection.dropped.iter().map(|dropped| dropped.text.as_str()).collect();
    assert_eq!(dropped, ["so", "thus"]);
}

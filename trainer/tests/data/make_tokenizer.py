"""Writes tokenizer.json: a byte-level BPE of the kind that Qwen models use, trained on the texts of this folder.

    pip install tokenizers && python make_tokenizer.py
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]

tokenizer = Tokenizer(models.BPE())
tokenizer.normalizer = normalizers.NFC()
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
tokenizer.decoder = decoders.ByteLevel()
texts = [(HERE / name).read_text() for name in ("conversations.json", "qwen.jinja", "make_renderings.py")]
texts += ["one\n\ntwo"] * 50
trainer = trainers.BpeTrainer(
    vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
tokenizer.train_from_iterator(texts, trainer)
tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
tokenizer.add_tokens([AddedToken(token, normalized=False) for token in PLAIN])
(HERE / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=0) + "\n")
print(tokenizer.get_vocab_size(), "tokens")

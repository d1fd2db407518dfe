#!/usr/bin/env python3
"""A conversation with a video and a picture, as transformers' processor and the model of fixtures/vlm read it.

    python make_video.py FIXTURES/vlm OUTPUT_DIR

OUTPUT_DIR gets a tokenizer of one token a character, a chat template as Qwen3.5's, the settings of both processors, and
reference.safetensors: the frames (five, an odd number) and the picture, `input_ids`, `position_ids`, what the processors make of them,
and, in float64 and rounded once, the merged features of the video and the logits.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

import make_fixtures as fixtures

SPECIAL = {247: "<|im_start|>", 248: "<|im_end|>", 250: "<|vision_start|>", 251: "<|vision_end|>", 252: "<|image_pad|>", 253: "<|video_pad|>"}
TEMPLATE = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n"
    "{%- if message.content is string %}{{ message.content }}{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{%- else %}{{ part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)
PATCHES = dict(patch_size=4, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
PICTURE = dict(PATCHES, size={"shortest_edge": 64, "longest_edge": 65536})
VIDEO = dict(PATCHES, size={"shortest_edge": 64, "longest_edge": 1536})
FPS = 4


def tokenizer():
    characters = ["\n", *map(chr, range(32, 127))]
    vocabulary = {c: i for i, c in enumerate(characters)} | {text: i for i, text in SPECIAL.items()}
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    split = {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": split, "post_processor": None,
        "added_tokens": [dict(id=i, content=text, **flags) for i, text in SPECIAL.items()],
        "decoder": {"type": "Fuse"}, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "?"},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    files = {"tokenizer.json": tokenizer(), "tokenizer_config.json": {"eos_token": "<|im_end|>"},
             "preprocessor_config.json": PICTURE, "video_preprocessor_config.json": VIDEO}
    for name, content in files.items():
        (args.output / name).write_text(json.dumps(content))
    (args.output / "chat_template.jinja").write_text(TEMPLATE)
    text = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(tokenizer())), eos_token="<|im_end|>")
    video_processor = Qwen3VLVideoProcessor(**VIDEO, do_sample_frames=False, cap_pixels_per_frame=False)
    processor = Qwen3VLProcessor(Qwen2VLImageProcessor(**PICTURE), text, video_processor, chat_template=TEMPLATE)

    rng = np.random.default_rng(21)
    frames, picture = rng.integers(0, 256, (5, 30, 22, 3), dtype=np.uint8), rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    parts = [{"type": "video"}, {"type": "text", "text": "And "}, {"type": "image"}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a cat"}]
    made = processor(
        text=[processor.apply_chat_template(messages, tokenize=False)],
        images=[Image.fromarray(picture)],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[{"fps": FPS, "total_num_frames": len(frames), "frames_indices": list(range(len(frames)))}],
        return_tensors="pt",
    )
    config = Qwen3_5Config.from_pretrained(args.checkpoint)
    # A model is made in the dtype of its file, which would round `A_log`.
    config.dtype = config.text_config.dtype = torch.float64
    weights = {k: v for k, v in load_file(args.checkpoint / "model.safetensors").items() if not k.startswith("mtp.")}
    model = fixtures.build(Qwen3_5ForConditionalGeneration, config, torch.float64, weights)
    positions, _ = model.model.get_rope_index(
        made["input_ids"], mm_token_type_ids=made["mm_token_type_ids"], image_grid_thw=made["image_grid_thw"],
        video_grid_thw=made["video_grid_thw"], attention_mask=made["attention_mask"],
    )
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in made.items() if isinstance(v, torch.Tensor)}
    with fixtures.precision(torch.float64), torch.no_grad():
        logits = model(**inputs, position_ids=positions, use_cache=False).logits
        seen = []
        model.model.visual.merger.register_forward_hook(lambda module, args, output: seen.append(output))
        model.model.visual(inputs["pixel_values_videos"], grid_thw=made["video_grid_thw"])
    store = {
        "frames": torch.from_numpy(frames), "picture": torch.from_numpy(picture),
        "input_ids": made["input_ids"].int(), "position_ids": positions.int(), "video_grid_thw": made["video_grid_thw"].int(),
        "pixel_values": made["pixel_values"].float(), "pixel_values_videos": made["pixel_values_videos"].float(),
        "merged": seen[0].float(), "logits": logits.float(),
    }
    save_file({k: v.contiguous() for k, v in store.items()}, args.output / "reference.safetensors", metadata={"fps": str(FPS)})
    print(text.decode(made["input_ids"][0]), made["video_grid_thw"].tolist(), made["image_grid_thw"].tolist())


main()

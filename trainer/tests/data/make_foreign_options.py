"""Writes foreign_options.json: the options of the commands of other programs, read from the programs themselves.

    pip install mlx-lm==0.32.2 && pip install --no-deps mlx-vlm==0.7.10 unsloth==2026.10.9
    python make_foreign_options.py > foreign_options.json

Of TRL and transformers, whose training arguments are some two hundred, a choice of the common ones stands below.
"""

import importlib.util
import json
import pathlib
import re
import sys

COMMON_IN_TRL = """
    model_name_or_path dataset_name output_dir per_device_train_batch_size per_device_eval_batch_size
    gradient_accumulation_steps learning_rate num_train_epochs max_steps lr_scheduler_type warmup_steps warmup_ratio
    optim weight_decay adam_beta1 adam_beta2 max_grad_norm bf16 fp16 gradient_checkpointing logging_steps eval_steps
    eval_strategy save_steps save_strategy save_total_limit report_to run_name push_to_hub hub_model_id seed data_seed
    max_length packing completion_only_loss assistant_only_loss dataset_text_field use_peft lora_r lora_alpha
    lora_dropout lora_target_modules use_rslora use_dora load_in_4bit load_in_8bit attn_implementation dtype
    resume_from_checkpoint torch_compile use_liger_kernel neftune_noise_alpha deepspeed fsdp do_train do_eval
    load_best_model_at_end trust_remote_code
"""


def flags(path: pathlib.Path) -> list:
    return re.findall(r'"--([a-z][a-z0-9-]*)"', path.read_text())


def fields(path: pathlib.Path, of: str) -> list:
    """The names of the fields of the classes whose names match."""
    bodies = re.findall(rf"(?ms)^class {of}\(.*?\):\n(.*?)(?=^\S|\Z)", path.read_text())
    return [name for body in bodies for name in re.findall(r"(?m)^    ([a-z][a-z0-9_]*): ", body)]


def folder(package: str) -> pathlib.Path:
    return pathlib.Path(importlib.util.find_spec(package).origin).parent


def main() -> None:
    unsloth = fields(folder("unsloth_cli") / "config.py", r"(?:Data|Training|Lora|Logging)Config")
    lists = {
        "mlx_lm.lora": flags(folder("mlx_lm") / "lora.py"),
        "mlx_lm.generate": flags(folder("mlx_lm") / "generate.py"),
        "mlx_vlm.train": flags(folder("mlx_vlm") / "train.py"),
        "unsloth train": [name.replace("_", "-") for name in unsloth],
        "trl sft": [name.replace("_", "-") for name in COMMON_IN_TRL.split()],
    }
    json.dump({name: sorted(set(options)) for name, options in lists.items()}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

//! The cotangent command: fine-tunes Qwen3.5.

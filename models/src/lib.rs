//! Qwen3.5 models that train if they compile.

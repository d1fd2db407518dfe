//! Gradient checks of every kernel.

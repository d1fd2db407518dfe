//! The attribute and derive macros of Cotangent.

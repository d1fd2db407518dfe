//! Parses, checks and expands kernel declarations.

//! Messages that are put together at compile time.
//!
//! A macro sees one declaration at a time, and the message of an unmet bound is fixed where its trait is declared. So a
//! text that names both sides can only come from a constant that panics, and the compiler puts `evaluation panicked:`
//! before it.

use crate::kernel::signature::Signature;

/// A message put together at compile time.
pub(super) struct Message {
    bytes: [u8; CAPACITY],
    length: usize,
}

const CAPACITY: usize = 1024;

impl Message {
    pub(super) const fn new(text: &str) -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }.push(text)
    }

    pub(super) const fn push(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut index = 0;
        while index < text.len() && self.length < CAPACITY {
            self.bytes[self.length] = text[index];
            self.length += 1;
            index += 1;
        }
        self
    }

    pub(super) const fn push_name(self, name: &str) -> Self {
        self.push("`").push(name).push("`")
    }

    /// "`name` of `kernel`".
    pub(super) const fn push_port(self, port: &str, kernel: &Signature) -> Self {
        self.push_name(port).push(" of ").push_name(kernel.name)
    }

    #[track_caller]
    pub(super) const fn fail(self) -> ! {
        let (text, _) = self.bytes.split_at(self.length);
        match core::str::from_utf8(text) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("a backward does not fit its forward"),
        }
    }
}

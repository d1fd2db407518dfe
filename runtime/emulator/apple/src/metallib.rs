//! Reads a Metal library: the functions that it lists, each with its LLVM bitcode. The format is not documented; the facts
//! are those that hold for all 17,251 functions of MLX's library, file version 2.8.

use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

/// Bytes of the header, behind which the list of functions stands.
const HEADER: usize = 88;
/// More functions than any library has: a larger count is damage.
const FUNCTIONS: u32 = 1 << 20;

/// A library in memory.
#[derive(Clone, Debug)]
pub struct Library {
    bytes: Vec<u8>,
    functions: Vec<Function>,
}

/// A kernel function of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The name on the host.
    pub name: String,
    /// Major and minor version of AIR, Apple's form of LLVM's bitcode.
    pub air: (u16, u16),
    /// Major and minor version of Metal.
    pub metal: (u16, u16),
    hash: [u8; 32],
    module: Range<usize>,
}

/// The reason why bytes are no library, or a function of it is not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The first four bytes are not `MTLB`.
    NoLibrary,
    /// Something lies outside the file.
    CutOff {
        /// The part that lies outside.
        what: &'static str,
        /// The byte at which the part begins.
        at: usize,
    },
    /// A function's record lacks a tag.
    Missing {
        /// The tag.
        tag: &'static str,
        /// The function's number in the list.
        function: usize,
    },
    /// The bitcode of a function is not that of its hash.
    Hash {
        /// The function.
        function: String,
    },
    /// No function is called so.
    Unknown {
        /// The name.
        function: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::NoLibrary => write!(f, "this is no Metal library: it does not begin with `MTLB`"),
            Damage::CutOff { what, at } => write!(f, "the library is damaged: {what} at byte {at} lies outside of it"),
            Damage::Missing { tag, function } => {
                write!(f, "the library is damaged: function {function} has no `{tag}`")
            }
            Damage::Hash { function } => write!(f, "the bitcode of `{function}` is damaged: its SHA-256 differs"),
            Damage::Unknown { function } => write!(f, "the library has no function `{function}`"),
        }
    }
}

impl std::error::Error for Damage {}

impl Library {
    /// Reads the list of functions. Hashes are checked when a module is asked for.
    ///
    /// # Errors
    /// If the bytes are no library, or what they say of themselves leads outside of them.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Damage> {
        if bytes.get(..4) != Some(b"MTLB") {
            return Err(Damage::NoLibrary);
        }
        let reader = Reader { bytes: &bytes };
        let list = reader.offset(24)?;
        let bitcode = reader.offset(72)?;
        if list < HEADER {
            return Err(Damage::CutOff { what: "the list of functions", at: list });
        }
        let count = reader.u32(list, "the number of functions")?;
        if count > FUNCTIONS {
            return Err(Damage::CutOff { what: "the end of the list of functions", at: list });
        }
        let mut functions = Vec::new();
        let mut at = list + 4;
        for number in 0..count as usize {
            let length = reader.u32(at, "the length of a function's record")? as usize;
            let end = at.checked_add(length.max(4)).filter(|&end| end <= bytes.len());
            let end = end.ok_or(Damage::CutOff { what: "a function's record", at })?;
            functions.push(reader.function(number, at + 4..end, bitcode)?);
            at = end;
        }
        Ok(Library { bytes, functions })
    }

    /// All functions, in the order of the list.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The bitcode of a function, in the wrapper that LLVM's tools take.
    ///
    /// # Errors
    /// If there is no such function, or its bytes do not have the hash that the library tells.
    pub fn module(&self, name: &str) -> Result<&[u8], Damage> {
        let found = self.functions.iter().find(|function| function.name == name);
        let function = found.ok_or_else(|| Damage::Unknown { function: name.to_owned() })?;
        let module = &self.bytes[function.module.clone()];
        if Sha256::digest(module)[..] != function.hash {
            return Err(Damage::Hash { function: name.to_owned() });
        }
        Ok(module)
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    fn get(&self, at: usize, length: usize, what: &'static str) -> Result<&'b [u8], Damage> {
        let end = at.checked_add(length);
        end.and_then(|end| self.bytes.get(at..end)).ok_or(Damage::CutOff { what, at })
    }

    fn u16(&self, at: usize, what: &'static str) -> Result<u16, Damage> {
        self.get(at, 2, what).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }

    fn u32(&self, at: usize, what: &'static str) -> Result<u32, Damage> {
        self.get(at, 4, what).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// An offset or size of 64 bits.
    fn offset(&self, at: usize) -> Result<usize, Damage> {
        let what = "an offset";
        let bytes = self.get(at, 8, what)?;
        let value = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        usize::try_from(value).map_err(|_| Damage::CutOff { what, at })
    }

    /// A record: tags of four letters, each followed by a length of 16 bits and that number of bytes, up to `ENDT`.
    fn function(&self, number: usize, record: Range<usize>, bitcode: usize) -> Result<Function, Damage> {
        let missing = |tag| Damage::Missing { tag, function: number };
        let (mut name, mut hash, mut offset, mut size) = (None, None, None, None);
        let (mut air, mut metal) = ((0, 0), (0, 0));
        let mut at = record.start;
        loop {
            if at + 4 > record.end {
                return Err(missing("ENDT"));
            }
            let tag = self.get(at, 4, "a tag")?;
            if tag == b"ENDT" {
                break;
            }
            let length = usize::from(self.u16(at + 4, "the length of a tag")?);
            let (begin, end) = (at + 6, at + 6 + length);
            if end > record.end {
                return Err(Damage::CutOff { what: "a tag's value", at: begin });
            }
            let value = self.get(begin, length, "a tag's value")?;
            match tag {
                b"NAME" => {
                    let text = value.strip_suffix(&[0]).unwrap_or(value);
                    name = Some(String::from_utf8_lossy(text).into_owned());
                }
                b"HASH" => hash = <[u8; 32]>::try_from(value).ok(),
                b"OFFT" if length == 24 => offset = Some(self.offset(begin + 16)?),
                b"MDSZ" if length == 8 => size = Some(self.offset(begin)?),
                b"VERS" if length == 8 => {
                    let part = |n: usize| self.u16(begin + 2 * n, "a version");
                    (air, metal) = ((part(0)?, part(1)?), (part(2)?, part(3)?));
                }
                _ => {}
            }
            at = end;
        }
        let begin = bitcode.checked_add(offset.ok_or(missing("OFFT"))?);
        let end = begin.zip(size).and_then(|(begin, size)| begin.checked_add(size));
        let (begin, end) = begin.zip(end).filter(|&(_, end)| end <= self.bytes.len()).ok_or(match size {
            None => missing("MDSZ"),
            Some(_) => Damage::CutOff { what: "the bitcode of a function", at: begin.unwrap_or(usize::MAX) },
        })?;
        let (name, hash) = (name.ok_or(missing("NAME"))?, hash.ok_or(missing("HASH"))?);
        Ok(Function { name, air, metal, hash, module: begin..end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A library of these functions, laid out as MLX's is.
    fn library(functions: &[(&str, &[u8])]) -> Vec<u8> {
        let mut list = (functions.len() as u32).to_le_bytes().to_vec();
        let mut modules = Vec::new();
        for (name, module) in functions {
            let mut record = Vec::new();
            let mut tag = |letters: &[u8; 4], value: &[u8]| {
                record.extend_from_slice(letters);
                record.extend_from_slice(&(value.len() as u16).to_le_bytes());
                record.extend_from_slice(value);
            };
            tag(b"NAME", &[name.as_bytes(), &[0]].concat());
            tag(b"TYPE", &[2]);
            tag(b"HASH", &Sha256::digest(module));
            let offsets = [0, 0, modules.len() as u64];
            tag(b"OFFT", &offsets.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>());
            tag(b"VERS", &[2, 0, 7, 0, 3, 0, 2, 0]);
            tag(b"MDSZ", &(module.len() as u64).to_le_bytes());
            record.extend_from_slice(b"ENDT");
            list.extend_from_slice(&(record.len() as u32 + 4).to_le_bytes());
            list.extend_from_slice(&record);
            modules.extend_from_slice(module);
        }
        let mut bytes = b"MTLB".to_vec();
        bytes.resize(HEADER, 0);
        bytes[24..32].copy_from_slice(&(HEADER as u64).to_le_bytes());
        bytes[72..80].copy_from_slice(&((HEADER + list.len()) as u64).to_le_bytes());
        bytes.extend_from_slice(&list);
        bytes.extend_from_slice(&modules);
        bytes
    }

    #[test]
    fn functions_are_found_by_name_with_their_bitcode() {
        let read = Library::read(library(&[("add", b"first"), ("exp", b"second module")])).unwrap();
        assert_eq!(read.functions().iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["add", "exp"]);
        assert_eq!((read.functions()[0].air, read.functions()[0].metal), ((2, 7), (3, 2)));
        assert_eq!(read.module("exp"), Ok(&b"second module"[..]));
        assert_eq!(read.module("log"), Err(Damage::Unknown { function: "log".into() }));
    }

    #[test]
    fn damage_is_named() {
        let whole = library(&[("add", b"first")]);
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            Library::read(bytes).and_then(|read| read.module("add").map(<[u8]>::len))
        };
        assert_eq!(with(0, b'X'), Err(Damage::NoLibrary));
        assert_eq!(with(whole.len() - 1, 0), Err(Damage::Hash { function: "add".into() }));
        assert!(matches!(with(31, 0xff), Err(Damage::CutOff { .. })));
        assert!(matches!(with(HEADER + 2, 0xff), Err(Damage::CutOff { .. })));
        let tag = whole.windows(4).position(|w| w == b"MDSZ").unwrap();
        assert_eq!(with(tag, b'X'), Err(Damage::Missing { tag: "MDSZ", function: 0 }));
    }

    proptest! {
        #[test]
        fn damaged_libraries_are_read_or_refused(flips: Vec<(usize, u8)>, cut: usize) {
            let mut bytes = library(&[("add", b"first"), ("exp", b"second module")]);
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(cut % (bytes.len() + 1));
            if let Ok(read) = Library::read(bytes) {
                for function in read.functions() {
                    let _ = read.module(&function.name);
                }
            }
        }

        #[test]
        fn bytes_behind_the_magic_word_are_read_or_refused(rest: Vec<u8>) {
            let _ = Library::read([b"MTLB".as_slice(), &rest].concat());
        }
    }
}

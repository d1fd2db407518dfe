//! The JSON header of a safetensors file: <https://huggingface.co/docs/safetensors>.
//!
//! The `safetensors` crate validates a file that is wholly in memory, takes the last of duplicate names and does not
//! name the tensor in most of its errors. So the checks are made here, on its types.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use crate::quoting::quoted;

use super::CheckpointError;

/// The format's own limit on the header, in bytes.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// More axes than any tensor has.
const MAX_RANK: usize = 32;

/// One tensor of a file: `data_offsets` count from the end of the header.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub begin: u64,
    pub end: u64,
}

#[derive(Debug, Default)]
pub(super) struct Header {
    pub tensors: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Parses the header and checks that its tensors cover exactly `data_bytes` bytes, without gap or overlap.
    pub(super) fn parse(path: &Path, json: &[u8], data_bytes: u64) -> Result<Self, CheckpointError> {
        let header: Header = serde_json::from_slice(json)
            .map_err(|error| CheckpointError::damaged(path, format!("the header is not valid: {error}")))?;
        header.check_sizes(path, data_bytes)?;
        header.check_layout(path, data_bytes)?;
        Ok(header)
    }

    fn check_sizes(&self, path: &Path, data_bytes: u64) -> Result<(), CheckpointError> {
        for (name, entry) in &self.tensors {
            let Entry { dtype, shape, begin, end } = entry;
            let fail = |reason| Err(CheckpointError::tensor(path, name, reason));
            if begin > end {
                return fail(format!("ends at byte {end}, before its start at byte {begin}"));
            }
            if *end > data_bytes {
                return fail(format!(
                    "reaches to byte {end} of the data, but the file has only {data_bytes}: it is truncated or \
                     damaged\n\
                     help: fetch the file again"
                ));
            }
            let bits = shape.iter().try_fold(dtype.bitsize(), |bits, extent| bits.checked_mul(*extent));
            match bits {
                Some(bits) if bits % 8 == 0 && bits as u64 / 8 == end - begin => {}
                Some(bits) => {
                    let found = end - begin;
                    return fail(format!("has {found} bytes, expected {} for {dtype} {shape:?}", bits.div_ceil(8)));
                }
                None => return fail(format!("has an impossible shape {shape:?}")),
            }
        }
        Ok(())
    }

    fn check_layout(&self, path: &Path, data_bytes: u64) -> Result<(), CheckpointError> {
        let mut entries: Vec<(&String, &Entry)> = self.tensors.iter().collect();
        entries.sort_by_key(|(_, entry)| (entry.begin, entry.end));
        let mut reached = 0;
        for (name, entry) in entries {
            if entry.begin != reached {
                let what =
                    if entry.begin < reached { "overlaps the tensor before it" } else { "leaves a gap before it" };
                let reason = format!("starts at byte {} of the data, expected {reached}: it {what}", entry.begin);
                return Err(CheckpointError::tensor(path, name, reason));
            }
            reached = entry.end;
        }
        if reached != data_bytes {
            let reason = format!("has {} bytes after its last tensor", data_bytes - reached);
            return Err(CheckpointError::damaged(path, reason));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        // MLX writes `null` if there is no metadata.
                        let metadata: Option<BTreeMap<String, String>> = map
                            .next_value()
                            .map_err(|error| A::Error::custom(format_args!("`__metadata__`: {error}")))?;
                        header.metadata = metadata.unwrap_or_default();
                        continue;
                    }
                    let entry: RawEntry = map
                        .next_value()
                        .map_err(|error| A::Error::custom(format_args!("tensor `{}`: {error}", quoted(&name))))?;
                    let entry = Entry {
                        dtype: entry.dtype.0,
                        shape: entry.shape.0,
                        begin: entry.data_offsets.0,
                        end: entry.data_offsets.1,
                    };
                    if header.tensors.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("tensor `{}` appears twice", quoted(&name))));
                    }
                    header.tensors.insert(name, entry);
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: RawDtype,
    shape: RawShape,
    data_offsets: (u64, u64),
}

struct RawDtype(Dtype);

impl<'de> Deserialize<'de> for RawDtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let parsed: Result<Dtype, serde::de::value::Error> = Dtype::deserialize(name.as_str().into_deserializer());
        match parsed {
            Ok(dtype) => Ok(Self(dtype)),
            Err(_) => Err(D::Error::custom(format_args!("unknown dtype `{}`", quoted(&name)))),
        }
    }
}

struct RawShape(Vec<usize>);

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;

        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = RawShape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a list of at most {MAX_RANK} sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawShape, A::Error> {
                let mut shape = Vec::new();
                while let Some(extent) = seq.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(A::Error::invalid_length(MAX_RANK + 1, &self));
                    }
                    shape.push(extent);
                }
                Ok(RawShape(shape))
            }
        }

        deserializer.deserialize_seq(ShapeVisitor)
    }
}

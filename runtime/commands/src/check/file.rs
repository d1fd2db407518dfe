//! Records of kernels' results in a file: safetensors with one tensor for each output and gradient.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cotangent::kernel::check::{Record, Recorded};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::NOTHING;

/// The separator between a kernel, the dtype to which a result is rounded, and the subject of the result.
const SEPARATOR: &str = " | ";
/// The key under which the file names the machine that made it.
const MADE_ON: &str = "made_on";

/// All records of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Records {
    /// Device, backend, versions, date.
    pub(super) made_on: String,
    records: HashMap<String, Record>,
}

impl Records {
    /// Returns the record of a kernel, empty if the file has none.
    pub(super) fn of(&self, kernel: &str) -> &Record {
        self.records.get(kernel).unwrap_or(&NOTHING)
    }
}

/// # Errors
/// A file that cannot be written.
pub(super) fn write(path: &Path, made_on: &str, records: &[(String, Record)]) -> Result<()> {
    let mut tensors: Vec<(String, Vec<u8>)> = Vec::new();
    for (kernel, record) in records {
        for Recorded { subject, rounded_to, values } in &record.results {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((format!("{kernel}{SEPARATOR}{rounded_to}{SEPARATOR}{subject}"), bytes));
        }
    }
    let views =
        tensors.iter().map(|(name, bytes)| Ok((name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let metadata = HashMap::from([(MADE_ON.to_owned(), made_on.to_owned())]);
    let bytes = serialize(views, Some(metadata))?;
    std::fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

/// # Errors
/// A file that is not there, or is no record.
pub(super) fn read(path: &Path) -> Result<Records> {
    let place = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{place}`"))?;
    let no_record = || format!("`{place}` is no record\n  help: write one with `check --record FILE`");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(no_record)?;
    let tensors = SafeTensors::deserialize(&bytes).with_context(no_record)?;
    let made_on = metadata.metadata().as_ref().and_then(|metadata| metadata.get(MADE_ON)).with_context(no_record)?;
    let mut records: HashMap<String, Record> = HashMap::new();
    for (name, tensor) in tensors.iter() {
        let [kernel, dtype, subject] = *name.splitn(3, SEPARATOR).collect::<Vec<_>>() else { bail!(no_record()) };
        let floats = [cotangent::Dtype::F32, cotangent::Dtype::F16, cotangent::Dtype::BF16];
        let rounded_to = floats.into_iter().find(|float| float.to_string() == dtype).with_context(no_record)?;
        ensure!(tensor.dtype() == Dtype::F32, no_record());
        let values = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        records.entry(kernel.to_owned()).or_default().results.push(Recorded {
            subject: subject.to_owned(),
            rounded_to,
            values,
        });
    }
    Ok(Records { made_on: made_on.clone(), records })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let result = |subject: &str, values: &[f32]| Recorded {
            subject: subject.to_owned(),
            rounded_to: cotangent::Dtype::BF16,
            values: values.to_vec(),
        };
        let record = Record {
            results: vec![result("S = 1: `y`", &[1.5, f32::NAN]), result("S = 2: `y`", &[])],
            refused: vec![],
        };
        write(&path, "a machine", &[("a::b".to_owned(), record)]).unwrap();
        let records = read(&path).unwrap();
        assert_eq!(records.made_on, "a machine");
        let found = records.of("a::b");
        assert_eq!(found.results.len(), 2);
        let first = found.results.iter().find(|result| result.subject == "S = 1: `y`").unwrap();
        assert_eq!(first.rounded_to, cotangent::Dtype::BF16);
        assert!(first.values[0] == 1.5 && first.values[1].is_nan(), "{first:?}");
        assert_eq!(records.of("another"), &NOTHING);
    }

    #[test]
    fn what_is_no_record_is_an_error_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        std::fs::write(&path, "no").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("help: write one with `check --record FILE`"));
        assert!(read(&folder.path().join("nothing")).unwrap_err().to_string().starts_with("cannot read `"));
    }
}

//! The orientation of a camera, from EXIF metadata.

/// The value of EXIF's tag `Orientation`, from 1 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

/// The tag's number.
const TAG: u16 = 0x0112;

impl Orientation {
    /// The orientation of a picture that is shown as the file holds it.
    pub(super) const UPRIGHT: Self = Orientation(1);

    /// Returns the orientation that EXIF metadata give: a TIFF file of tags, perhaps behind `Exif\0\0`. Damaged
    /// metadata count as none.
    pub(super) fn from_exif(exif: Option<&[u8]>) -> Self {
        exif.and_then(Self::find).unwrap_or(Self::UPRIGHT)
    }

    fn find(exif: &[u8]) -> Option<Self> {
        let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        let is_little = match tiff.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let short = |at: usize| {
            let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
        };
        let long = |at: usize| {
            let bytes: [u8; 4] = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
            Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
        };
        let directory = usize::try_from(long(4)?).ok()?;
        for entry in 0..usize::from(short(directory)?) {
            let at = directory.checked_add(2 + 12 * entry)?;
            if short(at)? == TAG {
                let value = match short(at + 2)? {
                    3 => u32::from(short(at + 8)?),
                    4 => long(at + 8)?,
                    _ => return None,
                };
                return u8::try_from(value).ok().filter(|value| (1..=8).contains(value)).map(Orientation);
            }
        }
        None
    }

    /// Turns `[height, width, 3]` so that it is upright.
    pub(super) fn apply(self, height: usize, width: usize, values: Vec<u8>) -> (usize, usize, Vec<u8>) {
        let Orientation(value) = self;
        if value == 1 {
            return (height, width, values);
        }
        let swaps = value >= 5;
        let (rows, columns) = if swaps { (width, height) } else { (height, width) };
        let mut turned = Vec::with_capacity(values.len());
        for row in 0..rows {
            for column in 0..columns {
                let (y, x) = if swaps { (column, row) } else { (row, column) };
                let y = if matches!(value, 3 | 4 | 6 | 7) { height - 1 - y } else { y };
                let x = if matches!(value, 2 | 3 | 7 | 8) { width - 1 - x } else { x };
                let at = (y * width + x) * 3;
                turned.extend_from_slice(&values[at..at + 3]);
            }
        }
        (rows, columns, turned)
    }
}

//! A hash by which sources are recognised.

/// FNV-1a over 128 bits, parts kept apart.
pub fn content_key<'a>(parts: impl IntoIterator<Item = &'a str>) -> u128 {
    const PRIME: u128 = 0x0000000001000000000000000000013b;
    let mut key: u128 = 0x6c62272e07bb014262b821756295c58d;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            key = (key ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
    key
}

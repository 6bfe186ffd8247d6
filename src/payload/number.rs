//! Numbers as text.

/// Writes 32 lower case hex digits.
pub(crate) fn write_id(id: u128, out: &mut Vec<u8>) {
    let mut text = [0; 32];
    for (digits, bytes) in text.chunks_exact_mut(8).zip(id.to_be_bytes().chunks_exact(4)) {
        let quarter = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        digits.copy_from_slice(&hex_digits(quarter));
    }
    out.extend_from_slice(&text);
}

/// Returns the eight hex digits of a number, all computed at once: one byte of a register each.
#[inline]
fn hex_digits(number: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut nibbles = u64::from(number);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & (0x0f * EACH);
    // 6 more make 16 of whatever is a letter.
    let letters = ((nibbles + 6 * EACH) >> 4) & EACH;
    (nibbles + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Writes decimal digits.
pub(crate) fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_the_formatter_writes_it() {
        let mut id = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128;
        for round in 0..1000_u128 {
            let mut written = Vec::new();
            write_id(id, &mut written);
            assert_eq!(String::from_utf8_lossy(&written), format!("{id:032x}"));
            id = id.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round);
        }
    }
}

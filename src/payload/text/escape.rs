//! The escapes of JSON.

/// How many bytes the longest escape has.
pub(super) const ESCAPE: usize = 6;

/// Writes the escape of a character that needs one.
#[inline]
pub(super) fn write_escape(byte: u8, out: &mut Vec<u8>) {
    // Always as many bytes as the longest escape: a copy of constant size.
    let (escape, length) = escape(byte);
    let written = out.len();
    out.extend_from_slice(escape);
    out.truncate(written + length);
}

/// The escape of a character that needs one, and its length.
#[inline]
pub(super) fn escape(byte: u8) -> (&'static [u8; ESCAPE], usize) {
    let (escape, length) = &ESCAPES[usize::from(byte & 0x7f)];
    (escape, usize::from(*length))
}

/// The escape of each character of ASCII that needs one, and its length.
const ESCAPES: [([u8; ESCAPE], u8); 128] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut escapes = [([0; ESCAPE], 0); 128];
    let mut byte = 0;
    while byte < 0x20 {
        escapes[byte] = ([b'\\', b'u', b'0', b'0', DIGITS[byte >> 4], DIGITS[byte & 15]], 6);
        byte += 1;
    }
    let short =
        [(b'"', b'"'), (b'\\', b'\\'), (8, b'b'), (12, b'f'), (b'\n', b'n'), (b'\r', b'r'), (b'\t', b't')];
    let mut at = 0;
    while at < short.len() {
        let (byte, letter) = short[at];
        escapes[byte as usize] = ([b'\\', letter, 0, 0, 0, 0], 2);
        at += 1;
    }
    escapes
};

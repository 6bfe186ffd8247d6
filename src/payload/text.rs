//! Writes text as a JSON string, escaped where RFC 8259 requires it and nowhere else.
#![allow(unsafe_code, reason = "vector instructions must be asked for before they are used")]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod escape;

use self::escape::write_escape;

/// How many bytes are scanned in one step without vector instructions.
const STEP: usize = 8;

/// Writes `text` as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    write_escaped(text, out);
    out.push(b'"');
}

/// Writes `text` as the inside of a JSON string.
#[inline]
pub(crate) fn write_escaped(text: &str, out: &mut Vec<u8>) {
    let text = text.as_bytes();
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
        // SAFETY: all it needs is the instructions that were just asked for.
        return unsafe { avx2::write_escaped(text, out) };
    }
    write_by_steps(text, out);
}

/// The same for any processor.
fn write_by_steps(text: &[u8], out: &mut Vec<u8>) {
    let mut written = 0;
    loop {
        let at = special(text, written);
        out.extend_from_slice(&text[written..at]);
        let Some(&byte) = text.get(at) else { break };
        write_escape(byte, out);
        written = at + 1;
    }
}

/// Returns the index of the first byte from `at` on that a JSON string cannot contain unescaped: a quote, a backslash or a
/// control character. The length of the text if there is none.
fn special(text: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk::<STEP>) {
        let found = specials(u64::from_le_bytes(*bytes));
        if found != 0 {
            return at + (found.trailing_zeros() / u8::BITS) as usize;
        }
        at += STEP;
    }
    let rest = &text[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

/// Returns the top bit of the first special byte, which is the lowest; 0 if none is special. Bits above that one are
/// meaningless: subtraction borrows in that direction.
fn specials(bytes: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    let below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes;
    let quote = below(bytes ^ (ONES * 0x22), 1);
    let backslash = below(bytes ^ (ONES * 0x5c), 1);
    (below(bytes, 0x20) | quote | backslash) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of a text, which is the same on any processor, into a buffer with much room or with just enough.
    fn written(text: &str) -> String {
        let mut by_steps = Vec::new();
        write_by_steps(text.as_bytes(), &mut by_steps);
        let json = format!("\"{}\"", String::from_utf8(by_steps).expect("text"));
        for room in [0, json.len(), 2 * json.len(), 4096] {
            let mut out = Vec::with_capacity(room);
            write_string(text, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(&*json), "{room} bytes of room");
            assert!(room != json.len() || out.capacity() == room, "a buffer of the right size has grown");
        }
        json
    }

    #[test]
    fn every_character_below_the_second_block_reads_back_at_every_place() {
        for character in (0..0x180).filter_map(char::from_u32) {
            for before in (0..=STEP).chain(27..=36).chain([60, 100]) {
                for after in [0, 1, STEP, 31, 32, 33, 40, 130] {
                    let text = format!("{}{character}{}", "ż".repeat(before), "x".repeat(after));
                    let json = written(&text);
                    assert_eq!(json, serde_json::to_string(&text).expect("JSON"));
                }
            }
        }
    }

    #[test]
    fn special_characters_next_to_each_other_are_all_escaped() {
        let text = "\"\"\\\\\n\u{1}\u{1f} \u{7f}\u{80}!\"#[\\]\u{2028}";
        assert_eq!(written(&text.repeat(9)), serde_json::to_string(&text.repeat(9)).expect("JSON"));
        assert_eq!(written(""), "\"\"");
        for length in 0..200 {
            // Each becomes the longest escape.
            let text = "\u{1}".repeat(length);
            assert_eq!(written(&text), serde_json::to_string(&text).expect("JSON"));
        }
    }
}

//! Escaping 32 bytes at a time, for processors with AVX2.

use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_setr_epi64x,
};

use super::escape::write_escape;

/// How many bytes are scanned in one step.
pub(super) const STEP: usize = 32;

/// Writes `text` as the inside of a JSON string, up to its last bytes: fewer than [`STEP`] of them. Returns where they
/// begin.
#[target_feature(enable = "avx2,bmi1")]
pub(super) fn write_escaped(text: &[u8], out: &mut Vec<u8>) -> usize {
    // Blocks from `run` to `at` contain no special bytes, and are copied together.
    let (mut run, mut at) = (0, 0);
    while let Some(block) = text[at..].first_chunk::<STEP>() {
        let special = specials(block).trailing_zeros() as usize;
        if special == STEP {
            at += STEP;
            continue;
        }
        if run < at {
            out.extend_from_slice(&text[run..at]);
        }
        // The whole block is written in one store of constant size, and the part from the special byte on is then undone:
        // cheaper than a copy whose length depends on the text.
        let written = out.len();
        out.extend_from_slice(block);
        out.truncate(written + special);
        write_escape(block[special], out);
        at += special + 1;
        run = at;
    }
    out.extend_from_slice(&text[run..at]);
    at
}

/// The bytes that a JSON string cannot contain unescaped, one bit for each.
#[target_feature(enable = "avx2")]
#[inline]
fn specials(block: &[u8; STEP]) -> u32 {
    let (words, _) = block.as_chunks();
    // This becomes one instruction.
    let word = |at: usize| i64::from_le_bytes(words[at]);
    let bytes = _mm256_setr_epi64x(word(0), word(1), word(2), word(3));
    let control = _mm256_cmpeq_epi8(bytes, _mm256_min_epu8(bytes, splat(0x1f)));
    let quote = _mm256_cmpeq_epi8(bytes, splat(b'"'));
    let backslash = _mm256_cmpeq_epi8(bytes, splat(b'\\'));
    let special = _mm256_or_si256(control, _mm256_or_si256(quote, backslash));
    _mm256_movemask_epi8(special).cast_unsigned()
}

#[target_feature(enable = "avx2")]
#[inline]
fn splat(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

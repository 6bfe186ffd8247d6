//! Escaping 32 bytes at a time, for processors with AVX2.

use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_setr_epi64x,
};
use std::mem::MaybeUninit;

use super::escape::{ESCAPE, escape};

/// How many bytes are scanned in one step.
const STEP: usize = 32;

/// The most bytes that a block becomes, and room behind them for the last copies of constant size.
const MOST: usize = STEP * ESCAPE + 2 * STEP;

/// Writes `text` as the inside of a JSON string.
#[target_feature(enable = "avx2,bmi1")]
pub(super) fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    // Blocks from `run` to `at` contain no special bytes, and are copied together.
    let (mut run, mut at) = (0, 0);
    while let Some(block) = text[at..].first_chunk::<{ 2 * STEP }>() {
        let special = specials::<0>(block);
        if special != 0 {
            if run < at {
                out.extend_from_slice(&text[run..at]);
            }
            write_block(block, special, STEP, out);
            run = at + STEP;
        }
        at += STEP;
    }
    let rest = &text[at..];
    if let Some(last) = text.last_chunk::<{ 2 * STEP }>() {
        let special = u64::from(specials::<0>(last)) | u64::from(specials::<1>(last)) << STEP;
        // The rest is the end of that, and at least STEP bytes: the loop ends before the last whole block.
        if special >> (2 * STEP - rest.len()) == 0 {
            out.extend_from_slice(&text[run..]);
            return;
        }
    }
    out.extend_from_slice(&text[run..at]);
    // What is left is too short for copies of constant size where it lies.
    let mut padded = [b' '; 3 * STEP];
    padded[..rest.len()].copy_from_slice(rest);
    let mut at = 0;
    while let Some(block) = padded[at..].first_chunk::<{ 2 * STEP }>()
        && at < rest.len()
    {
        write_block(block, specials::<0>(block), STEP.min(rest.len() - at), out);
        at += STEP;
    }
}

/// Writes the first `length` bytes of `block`, at most [`STEP`], of which these are special.
#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn write_block(block: &[u8; 2 * STEP], special: u32, length: usize, out: &mut Vec<u8>) {
    if let Some(room) = out.spare_capacity_mut().first_chunk_mut::<MOST>() {
        let written = escape_block(block, special, room) - (STEP - length);
        // SAFETY: so many bytes have been written behind the end.
        unsafe { out.set_len(out.len() + written) };
    } else {
        write_apart(block, special, length, out);
    }
}

/// The same for a buffer without room for copies of constant size, which is not to grow by more than the text takes.
#[target_feature(enable = "avx2,bmi1")]
#[inline(never)]
fn write_apart(block: &[u8; 2 * STEP], special: u32, length: usize, out: &mut Vec<u8>) {
    let mut room = [const { MaybeUninit::uninit() }; MOST];
    let written = escape_block(block, special, &mut room) - (STEP - length);
    // SAFETY: so many bytes have been written.
    out.extend_from_slice(unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), written) });
}

/// Writes the first half of `block`, of which these bytes are special, and returns how many bytes that became.
#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn escape_block(block: &[u8; 2 * STEP], mut special: u32, room: &mut [MaybeUninit<u8>; MOST]) -> usize {
    let (block, room) = (block.as_ptr(), room.as_mut_ptr().cast::<u8>());
    // How much of the block has been read, and how much was written.
    let (mut from, mut to) = (0, 0);
    loop {
        let next = special.trailing_zeros() as usize;
        // A copy of constant size is cheaper than one whose length depends on the text. What it writes too much is
        // overwritten next, or stays behind the end.
        // SAFETY: `from` is at most STEP, so that the block has STEP bytes from there; `to` is at most ESCAPE * `from`, so that
        // the room has STEP bytes from there, and ESCAPE bytes behind these. `next` is below STEP where it is read.
        unsafe {
            room.add(to).copy_from_nonoverlapping(block.add(from), STEP);
            to += next - from;
            if next == STEP {
                return to;
            }
            let (escape, length) = escape(*block.add(next));
            room.add(to).cast::<[u8; ESCAPE]>().write(*escape);
            to += length;
        }
        from = next + 1;
        special &= special - 1;
    }
}

/// The bytes of the first or second half of a block that a JSON string cannot contain unescaped, one bit for each.
#[target_feature(enable = "avx2")]
#[inline]
fn specials<const HALF: usize>(block: &[u8; 2 * STEP]) -> u32 {
    let (words, _) = block.as_chunks();
    // This becomes one instruction.
    let word = |at: usize| i64::from_le_bytes(words[4 * HALF + at]);
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

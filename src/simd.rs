//! Masks over 64 bytes at a time, by vector instructions (AVX2): one bit for each matching byte.
#![allow(unsafe_code, reason = "vector instructions must be asked for before they are used")]

use std::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_set1_epi8, _mm256_cmpeq_epi8,
    _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi8,
    _mm256_setr_epi64x, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_sub_epi8,
};

/// Characters, each at the index of its lower four bits.
pub(crate) const fn by_low_half(characters: &[u8]) -> [u8; 16] {
    // At index 0, a 0 would be a character; at all others it cannot be one.
    let mut table = [0; 16];
    table[0] = 1;
    let mut at = 0;
    while at < characters.len() {
        table[(characters[at] & 15) as usize] = characters[at];
        at += 1;
    }
    table
}

/// In each bit the exclusive or of all bits up to it.
#[target_feature(enable = "pclmulqdq")]
#[inline]
pub(crate) fn prefix_xor(bits: u64) -> u64 {
    let product = _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits.cast_signed()), _mm_set1_epi8(-1));
    _mm_cvtsi128_si64(product).cast_unsigned()
}

/// 64 bytes of a text.
#[derive(Clone, Copy)]
pub(crate) struct Block(__m256i, __m256i);

impl Block {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn load(bytes: &[u8; 64]) -> Self {
        let (words, _) = bytes.as_chunks();
        // This becomes one instruction for each half.
        let word = |at: usize| i64::from_le_bytes(words[at]);
        Self(
            _mm256_setr_epi64x(word(0), word(1), word(2), word(3)),
            _mm256_setr_epi64x(word(4), word(5), word(6), word(7)),
        )
    }

    /// The top bit of each byte.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn top_bits(self) -> u64 {
        let half = |bytes| u64::from(_mm256_movemask_epi8(bytes).cast_unsigned());
        half(self.0) | half(self.1) << 32
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn equal(self, byte: u8) -> u64 {
        let bytes = splat(byte);
        Self(_mm256_cmpeq_epi8(self.0, bytes), _mm256_cmpeq_epi8(self.1, bytes)).top_bits()
    }

    /// The bytes that are in the table.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn any_of(self, table: &[u8; 16]) -> u64 {
        let (low, high) = table.split_at(8);
        let word = |half: &[u8]| half.iter().rfold(0, |word, &byte| word << 8 | i64::from(byte));
        let table = _mm_set_epi64x(word(high), word(low));
        let table = _mm256_set_m128i(table, table);
        Self(
            _mm256_cmpeq_epi8(self.0, _mm256_shuffle_epi8(table, self.0)),
            _mm256_cmpeq_epi8(self.1, _mm256_shuffle_epi8(table, self.1)),
        )
        .top_bits()
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn up_to(self, byte: u8) -> u64 {
        let most = splat(byte);
        Self(
            _mm256_cmpeq_epi8(self.0, _mm256_min_epu8(self.0, most)),
            _mm256_cmpeq_epi8(self.1, _mm256_min_epu8(self.1, most)),
        )
        .top_bits()
    }

    /// Whether any byte is at most this one.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn has_up_to(self, byte: u8) -> bool {
        let least = _mm256_min_epu8(self.0, self.1);
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, _mm256_min_epu8(least, splat(byte)))) != 0
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn minus(self, byte: u8) -> Self {
        let bytes = splat(byte);
        Self(_mm256_sub_epi8(self.0, bytes), _mm256_sub_epi8(self.1, bytes))
    }

    /// Sets the bit that distinguishes lower case from upper case letters.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn lowercase(self) -> Self {
        let bits = splat(0x20);
        Self(_mm256_or_si256(self.0, bits), _mm256_or_si256(self.1, bits))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn shifted_left_by_2(self) -> Self {
        Self(_mm256_slli_epi16::<2>(self.0), _mm256_slli_epi16::<2>(self.1))
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn splat(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

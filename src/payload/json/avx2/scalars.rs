//! Numbers and literals.

use super::{Check, DIGITS, Tokens, behind};
use crate::simd::Block;

const TRUE: u64 = u64::from_le_bytes(*b"true\0\0\0\0");
const NULL: u64 = u64::from_le_bytes(*b"null\0\0\0\0");
const FALSE: u64 = u64::from_le_bytes(*b"false\0\0\0");

impl Check<'_> {
    /// Whether all numbers and literals are valid.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
    #[inline]
    pub(super) fn scalars(&mut self, block: Block, tokens: &Tokens) -> bool {
        let &Tokens { scalar, at_value, .. } = tokens;
        if scalar == 0 {
            // A scalar that ended with the block before must not end in a decimal point.
            let (digit, integer) = (std::mem::take(&mut self.digit), std::mem::take(&mut self.integer));
            return digit & !integer == 0;
        }
        let digits = block.any_of(&DIGITS) & scalar;
        let point = block.equal(b'.') & scalar;
        let mut others = scalar & !(digits | point);
        let (mut start, mut begins) = (at_value, 0);
        if others != 0 {
            let minus = block.equal(b'-') & at_value;
            start |= minus << 1;
            others = (others ^ minus) & !self.rest;
            self.rest = 0;
            if minus << 1 & !digits != 0 {
                return false;
            }
            if minus >> 63 != 0 {
                // The digits of its number are in the next block.
                match self.text[self.start + 64..] {
                    [b'0', b'0'..=b'9', ..] => return false,
                    [b'0'..=b'9', ..] => begins = 1,
                    _ => return false,
                }
            }
        }
        let zero = block.equal(b'0') & start;
        // The digits of integer parts become 0, the byte behind each such part and all other digits 1.
        let (sum, over) = digits.overflowing_add(digits & start | self.integer);
        self.integer = u64::from(over) | begins;
        // So 0 is wrong behind a zero at the start, where it is one more digit, and behind a decimal point, where it
        // is no digit.
        let wrong = (behind(point | zero, 0, &mut self.digit) | point) & !sum;
        wrong == 0
            && (others == 0
                || self.are_few_literals(tokens, others)
                || self.are_words(block, tokens, digits, others))
    }

    /// Whether the `others`, bytes of scalars that are no digit, no decimal point and no sign of a number, are one or two
    /// literals: for so few a comparison each costs less than masks do.
    #[inline]
    fn are_few_literals(&mut self, tokens: &Tokens, mut others: u64) -> bool {
        let &Tokens { at_value, scalar, .. } = tokens;
        if (others & at_value).count_ones() > 2 {
            return false;
        }
        while others != 0 {
            let at = others.trailing_zeros();
            let end = at + (scalar >> at).trailing_ones();
            if at_value >> at & 1 == 0 {
                return false;
            }
            let text = &self.text[self.start + at as usize..];
            if end < 64 {
                let Some(word) = text.first_chunk() else { return false };
                let word = u64::from_le_bytes(*word) & !(u64::MAX.unbounded_shl(8 * (end - at)));
                if !is_literal(word) {
                    return false;
                }
                others &= u64::MAX << end;
            } else {
                let Some(len) = literal(text) else { return false };
                self.rest = !(u64::MAX << (at + len - 64));
                return true;
            }
        }
        true
    }

    /// Whether the `others` are literals and exponents.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
    #[inline(never)]
    fn are_words(&mut self, block: Block, tokens: &Tokens, digits: u64, others: u64) -> bool {
        let &Tokens { at_value, scalar, .. } = tokens;
        let small_e = block.equal(b'e');
        let starts = others & at_value;
        let mut left = others;
        let mut wrong = 0;
        if starts != 0 {
            let [mut t, mut n, mut f] = [b't', b'n', b'f'].map(|byte| block.equal(byte) & starts);
            let last = starts.ilog2();
            if last >= 59 {
                // The last one may end in the next block.
                let Some(len) = literal(&self.text[self.start + last as usize..]) else { return false };
                let behind = u64::MAX.unbounded_shl(last);
                self.rest = !(u64::MAX << (last + len).saturating_sub(64));
                left &= !behind;
                [t, n, f] = [t, n, f].map(|starts| starts & !behind);
            }
            // The letters that must follow the first ones; behind the last no more of a scalar may follow.
            let letters: [(u8, u64); 5] = [
                (b'r', t << 1),
                (b'u', t << 2 | n << 1),
                (b'l', n << 2 | n << 3 | f << 2),
                (b'a', f << 1),
                (b's', f << 3),
            ];
            for (byte, at) in letters {
                wrong |= at & !block.equal(byte);
                left &= !at;
            }
            let at = t << 3 | f << 4;
            wrong |= at & !small_e | (t << 4 | n << 4 | f << 5) & scalar;
            left &= !(t | n | f | at);
        }
        if left != 0 {
            let e = (small_e | block.equal(b'E')) & left;
            let sign = (block.equal(b'+') | block.equal(b'-')) & left & e << 1;
            let start = e << 1 & !sign | sign << 1;
            // The byte behind each exponent becomes 1: no other exponent may begin there.
            let sum = digits.wrapping_add(start & digits);
            // The masks do not say whether digits at the start of the block are of an exponent that began before it.
            let first = digits & 0b11;
            let carried = e & (digits.wrapping_add(first & first.wrapping_neg()) & !digits | 1);
            if carried != 0 && !may_have_exponent(self.text, self.start + carried.ilog2() as usize) {
                return false;
            }
            wrong |= left & !(e | sign) | start & !digits | e & !carried & (sum | !(digits << 1));
            if (e | sign) >> 63 != 0 {
                // The digits of the exponent are in the next block.
                let next = &self.text[self.start + 64..];
                let signed = e >> 63 != 0 && matches!(next.first(), Some(b'+' | b'-'));
                self.rest = u64::from(signed);
                return wrong == 0 && next.get(usize::from(signed)).is_some_and(u8::is_ascii_digit);
            }
        }
        wrong == 0
    }
}

/// Whether these bytes, the first one lowest, are a literal.
#[expect(clippy::needless_bitwise_bool, reason = "a processor cannot foresee which literal comes")]
#[inline]
fn is_literal(word: u64) -> bool {
    (word == TRUE) | (word == NULL) | (word == FALSE)
}

/// The length of the literal that starts here; `None` if there is none, or if more of a scalar follows it.
#[inline]
fn literal(text: &[u8]) -> Option<u32> {
    let len = match text {
        [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => 4,
        [b'f', b'a', b'l', b's', b'e', ..] => 5,
        _ => return None,
    };
    matches!(text.get(len as usize), None | Some(b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
        .then_some(len)
}

/// Whether the byte at `at` follows a digit that is not of an exponent.
#[cold]
fn may_have_exponent(text: &[u8], at: usize) -> bool {
    let digits = text[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let is_exponent = matches!(text[..at - digits], [.., b'e' | b'E', b'+' | b'-'] | [.., b'e' | b'E']);
    digits > 0 && !is_exponent
}

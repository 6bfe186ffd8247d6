//! The look itself, for processors with AVX2.

use crate::simd::{Block, by_low_half, prefix_xor};

/// The stack outside of all containers.
const OUTSIDE: u64 = 0b10;

/// The same on a processor that has the instructions.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub(super) fn is_json_line(text: &[u8]) -> bool {
    // The outermost bracket is on the stack from the start: whichever bracket finds the stack as it is outside is
    // one too many.
    let stack = match text.first() {
        Some(b'{') => OUTSIDE << 1 | 1,
        Some(b'[') => OUTSIDE << 1,
        _ => OUTSIDE,
    };
    let mut check = Check {
        text,
        start: 0,
        in_string: 0,
        escaped: 0,
        hex: 0,
        value: 1,
        operand: 0,
        scalar: 0,
        integer: 0,
        digit: 0,
        key: 0,
        stack,
        walked: u64::from(stack != OUTSIDE),
    };
    let (blocks, rest) = text.as_chunks::<64>();
    // A block of its own even if nothing is left, so that the text always ends with whitespace.
    let mut last = [b' '; 64];
    last[..rest.len()].copy_from_slice(rest);
    let count = blocks.len() + 1;
    for number in 0..count {
        check.start = number * 64;
        if !check.block(Block::load(blocks.get(number).unwrap_or(&last))) {
            return false;
        }
    }
    check.stack == OUTSIDE && check.in_string | check.value | check.key == 0
}

/// What the blocks so far leave for the next one. Where nothing else is said, it is a bit that stands for the
/// first byte of that block.
struct Check<'t> {
    text: &'t [u8],
    /// Where the block starts.
    start: usize,
    /// All bits, if the block starts in a string.
    in_string: u64,
    /// It is escaped.
    escaped: u64,
    /// The bytes that must be hexadecimal digits of an escape.
    hex: u64,
    /// The next token must be a value, or the end of an empty container.
    value: u64,
    /// The token before is an opening bracket or a string.
    operand: u64,
    /// The byte before is in a number or a literal.
    scalar: u64,
    /// The byte before is in the integer part of a number.
    integer: u64,
    /// The byte before is a decimal point, or a zero that starts a number.
    digit: u64,
    /// The bracket, comma or colon before is an opening bracket or a comma: in an object, a key stands here.
    key: u64,
    /// The open containers from the lowest bit on, 1 for an object, and `OUTSIDE` above them.
    stack: u64,
    /// The first bracket, when it is already on the stack.
    walked: u64,
}

/// The tokens in a block, a bit for each byte.
struct Tokens {
    /// Opening brackets of both kinds.
    open: u64,
    /// Closing brackets of both kinds.
    close: u64,
    colon: u64,
    comma: u64,
    /// Every byte of numbers and literals, and every one that belongs nowhere.
    scalar: u64,
    /// Where a value must stand, or the end of an empty container.
    at_value: u64,
    /// The ends of empty containers.
    empty: u64,
}

impl Check<'_> {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
    #[inline]
    fn block(&mut self, block: Block) -> bool {
        let Some(quotes) = self.quotes(block) else { return false };
        let Some(tokens) = self.tokens(block, quotes) else { return false };
        self.containers(block, &tokens) && self.scalars(block, &tokens)
    }

    /// The quotes that start and end strings; `None` if an escape is wrong.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
    #[inline]
    fn quotes(&mut self, block: Block) -> Option<u64> {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        let quotes = block.equal(b'"');
        let backslashes = block.equal(b'\\');
        if backslashes | self.escaped | self.hex == 0 {
            return Some(quotes);
        }
        // In a run of backslashes every second one escapes. Subtracting the run from the odd places turns over those
        // between its start and its end, so that what is left tells the odd ones from the even ones of that run.
        let unescaped = backslashes & !self.escaped;
        let escaping = (unescaped << 1 | ODD).wrapping_sub(unescaped) ^ ODD;
        let escaped = escaping ^ (backslashes | self.escaped);
        self.escaped = (escaping & backslashes) >> 63;

        let rarer = escaped & !(block.any_of(&by_low_half(b"\\/bfnt")) | quotes);
        if rarer | self.hex != 0 {
            let unicode = block.equal(b'u') & rarer;
            let digits = block.any_of(&DIGITS) | block.lowercase().minus(b'a').up_to(5);
            // The four places behind each, some of them in the next block.
            let (wanted, over) = unicode.carrying_mul(0b1_1110, self.hex);
            self.hex = over;
            if wanted & !digits | rarer & !(unicode | block.equal(b'r')) != 0 {
                return None;
            }
        }
        Some(quotes & !escaped)
    }

    /// The tokens, when those next to each other may be.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
    #[inline]
    fn tokens(&mut self, block: Block, quotes: u64) -> Option<Tokens> {
        // From an opening quote on, without the closing one.
        let in_string = prefix_xor(quotes) ^ self.in_string;
        self.in_string = 0u64.wrapping_sub(in_string >> 63);
        let outside = !in_string;
        let comma = block.equal(b',') & outside;
        let colon = block.equal(b':') & outside;
        // Square brackets become braces, and nothing else does but what is a control character or no ASCII.
        let open = block.lowercase().equal(b'{') & outside;
        let close = block.lowercase().equal(b'}') & outside;
        let white = block.any_of(&by_low_half(b" \t")) & outside;
        let scalar = outside & !(comma | colon | open | close | quotes | white);

        let at_value = behind(comma | colon | open, white, &mut self.value);
        let operand = behind(open | quotes & outside, white, &mut self.operand);
        let scalar_start = scalar & !behind(scalar, 0, &mut self.scalar);
        let empty = close & at_value & operand;
        let wrong = at_value ^ (open | quotes & in_string | scalar_start | empty)
            | colon & !operand
            | block.up_to(0x1f) & !white;
        (wrong == 0).then_some(Tokens { open, close, colon, comma, scalar, at_value, empty })
    }

    /// Whether the numbers and literals are such.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
    #[inline]
    fn scalars(&mut self, block: Block, tokens: &Tokens) -> bool {
        let &Tokens { scalar, at_value, .. } = tokens;
        let digits = block.any_of(&DIGITS) & scalar;
        let point = block.equal(b'.') & scalar;
        let mut others = scalar & !(digits | point);
        let mut start = at_value;
        if others != 0 {
            // One at the end of the block is left to the slow look below.
            let minus = block.equal(b'-') & at_value & (u64::MAX >> 1);
            if minus << 1 & !digits != 0 {
                return false;
            }
            others ^= minus;
            start |= minus << 1;
        }
        let zero = block.equal(b'0') & start;
        // The digits of integer parts become 0, the place behind each such part and all other digits 1.
        let (sum, over) = digits.overflowing_add(digits & start);
        let (sum, over_again) = sum.overflowing_add(self.integer);
        self.integer = u64::from(over | over_again);
        // So 0 is wrong behind a zero at the start, where it is one more digit, and behind a decimal point, where it
        // is no digit.
        if behind(point | zero, 0, &mut self.digit) & !sum != 0 {
            return false;
        }
        let mut rest = others | point & !sum;
        while rest != 0 {
            let at = rest.trailing_zeros();
            let end = at + (scalar >> at).trailing_ones();
            let place = self.start + at as usize;
            // Past the end of the block may be more of it.
            let literal = end < 64 && at_value >> at & 1 == 1 && is_literal(self.text, place, end - at);
            if !literal && !is_scalar(self.text, place) {
                return false;
            }
            rest &= u64::MAX.unbounded_shl(end);
        }
        true
    }

    /// Whether brackets match, and commas and colons are what they must be in a list or in an object.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
    #[inline]
    fn containers(&mut self, block: Block, tokens: &Tokens) -> bool {
        let &Tokens { open, close, colon, comma, empty, .. } = tokens;
        // The first of these characters behind each opening bracket and each comma: what is subtracted borrows from
        // it. In an object it must be a colon, and each colon must be such a one; in a list there are no colons.
        let all = comma | colon | open | close;
        let (rest, over) = all.overflowing_sub((comma | open) << 1 | self.key);
        self.key = (comma | open) >> 63 | u64::from(over);
        let wrong_in_object = (all & !rest ^ colon) & !empty;

        // Room on the stack for all that may come.
        if self.stack.leading_zeros() <= open.count_ones() {
            return false;
        }
        let brace = block.shifted_left_by_2().top_bits();
        let mut in_object = 0u64.wrapping_sub(self.stack & 1);
        let mut brackets = (open | close) & !self.walked;
        self.walked = 0;
        while brackets != 0 {
            if self.stack == OUTSIDE {
                return false;
            }
            let at = brackets.trailing_zeros();
            let above = !(brackets ^ (brackets - 1));
            let pushed = self.stack << 1 | brace >> at & 1;
            self.stack = if open >> at & 1 == 1 { pushed } else { self.stack >> 1 };
            in_object = in_object & !above | 0u64.wrapping_sub(self.stack & 1) & above;
            brackets &= brackets - 1;
        }
        wrong_in_object & in_object | colon & !in_object | close & (brace ^ in_object) == 0
    }
}

/// The places of the tokens behind these bytes, over whitespace. One in the next block is carried there.
#[inline]
fn behind(bytes: u64, white: u64, carry: &mut u64) -> u64 {
    let (sum, over) = white.overflowing_add(bytes << 1 | *carry);
    *carry = bytes >> 63 | u64::from(over);
    sum & !white
}

/// Whether these bytes, none of them 0, are a literal. Not always true at the end of the text.
#[inline]
fn is_literal(text: &[u8], at: usize, len: u32) -> bool {
    let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) else { return false };
    let word = u64::from_le_bytes(*word) & !u64::MAX.unbounded_shl(len * 8);
    // No short cuts: which literal comes is what a processor cannot foresee.
    (word == u64::from_le_bytes(*b"true\0\0\0\0"))
        | (word == u64::from_le_bytes(*b"false\0\0\0"))
        | (word == u64::from_le_bytes(*b"null\0\0\0\0"))
}

/// Whether the token with this byte is a number or a literal, and ends like one.
#[inline]
fn is_scalar(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rposition(|byte| matches!(byte, b',' | b':' | b'[' | b' ' | b'\t'));
    let token = &text[before.map_or(0, |at| at + 1)..];
    let end = match token {
        [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => Some(4),
        [b'f', b'a', b'l', b's', b'e', ..] => Some(5),
        _ => number(token),
    };
    end.is_some_and(|end| matches!(token.get(end), None | Some(b',' | b']' | b'}' | b' ' | b'\t')))
}

/// How long the number is that starts here.
#[inline]
fn number(token: &[u8]) -> Option<usize> {
    let mut at = usize::from(token.first() == Some(&b'-'));
    at = if token.get(at) == Some(&b'0') { at + 1 } else { digits(token, at)? };
    if token.get(at) == Some(&b'.') {
        at = digits(token, at + 1)?;
    }
    if matches!(token.get(at), Some(b'e' | b'E')) {
        let sign = matches!(token.get(at + 1), Some(b'+' | b'-'));
        at = digits(token, at + 1 + usize::from(sign))?;
    }
    Some(at)
}

/// The end of the digits from here on, one at least.
#[inline]
fn digits(token: &[u8], start: usize) -> Option<usize> {
    let rest = token.get(start..)?;
    let len = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    (len > 0).then_some(start + len)
}

const DIGITS: [u8; 16] = by_low_half(b"0123456789");

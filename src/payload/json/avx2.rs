//! The validation itself, for processors with AVX2.

mod scalars;

use std::arch::x86_64::{_pdep_u64, _pext_u64};

use crate::payload::Known;
use crate::simd::{Block, by_low_half, prefix_xor};

/// The stack outside of all containers.
const OUTSIDE: u64 = 0b10;
const DIGITS: [u8; 16] = by_low_half(b"0123456789");
const WHITESPACE: [u8; 16] = by_low_half(b" \t\n\r");

/// The same on a processor that has the instructions.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub(super) fn validate(text: &[u8]) -> Known {
    let start = text.iter().position(|byte| !b" \t\n\r".contains(byte)).unwrap_or(text.len());
    let text = &text[start..];
    // The outermost bracket is on the stack from the start: any bracket outside of it is one too many.
    let stack = match text.first() {
        Some(b'{') => OUTSIDE << 1 | 1,
        Some(b'[') => OUTSIDE << 1,
        _ => OUTSIDE,
    };
    let mut check = Check {
        text,
        start: 0,
        outside: u64::MAX,
        escaped: 0,
        hex: 0,
        value: 1,
        operand: 0,
        scalar: 0,
        integer: 0,
        digit: 0,
        rest: 0,
        key: 0,
        stack,
        walked: u64::from(stack != OUTSIDE),
        line_breaks: 0,
    };
    let (blocks, rest) = text.as_chunks::<64>();
    // A block of its own even if nothing is left, so that the text always ends with whitespace.
    let mut last = [b' '; 64];
    last[..rest.len()].copy_from_slice(rest);
    let count = blocks.len() + 1;
    for number in 0..count {
        check.start = number * 64;
        if !check.block(Block::load(blocks.get(number).unwrap_or(&last))) {
            return Known::Nothing;
        }
    }
    if check.stack != OUTSIDE || !check.outside | check.value | check.key != 0 {
        return Known::Nothing;
    }
    Known::Json { one_line: start == 0 && check.line_breaks == 0 }
}

/// What the blocks so far leave for the next one. Where nothing else is said, it is a bit that stands for the
/// first byte of that block.
struct Check<'t> {
    text: &'t [u8],
    /// Where the block starts.
    start: usize,
    /// All bits, if the block starts outside of strings.
    outside: u64,
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
    /// The bytes of a literal that started in the block before, and is one.
    rest: u64,
    /// The bracket, comma or colon before is an opening bracket or a comma: in an object, a key stands here.
    key: u64,
    /// The open containers from the lowest bit on, 1 for an object, and `OUTSIDE` above them.
    stack: u64,
    /// The first bracket, when it is already on the stack.
    walked: u64,
    /// Where there were line breaks in any block so far.
    line_breaks: u64,
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
        let has_control = block.has_up_to(0x1f);
        if quotes | self.outside == 0 {
            // Nothing but the inside of a string.
            return !has_control;
        }
        let Some(tokens) = self.tokens(block, quotes, has_control) else { return false };
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
        // In a run of backslashes every second one escapes. Subtracting the run from the odd bits inverts those between its
        // start and its end, so that what is left separates the odd ones from the even ones of that run.
        let unescaped = backslashes & !self.escaped;
        let escaping = (unescaped << 1 | ODD).wrapping_sub(unescaped) ^ ODD;
        let escaped = escaping ^ (backslashes | self.escaped);
        self.escaped = (escaping & backslashes) >> 63;

        let rarer = escaped & !(block.any_of(&by_low_half(b"\\/bfnt")) | quotes);
        if rarer | self.hex != 0 {
            let unicode = block.equal(b'u') & rarer;
            let digits = block.any_of(&DIGITS) | block.lowercase().minus(b'a').up_to(5);
            // The four bytes behind each, some of them in the next block.
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
    fn tokens(&mut self, block: Block, quotes: u64, has_control: bool) -> Option<Tokens> {
        // In a string is what stands from an opening quote on, without the closing one.
        let outside = prefix_xor(quotes) ^ self.outside;
        self.outside = 0u64.wrapping_sub(outside >> 63);
        let comma = block.equal(b',') & outside;
        let colon = block.equal(b':') & outside;
        // Square brackets become braces, and nothing else does but what is a control character or no ASCII.
        let open = block.lowercase().equal(b'{') & outside;
        let close = block.lowercase().equal(b'}') & outside;
        let mut white = block.equal(b' ');
        if has_control {
            white = block.any_of(&WHITESPACE);
            let control = block.up_to(0x1f);
            if control & !(white & outside) != 0 {
                return None;
            }
            self.line_breaks |= control ^ block.equal(b'\t');
        }
        let scalar = outside & !(comma | colon | open | close | quotes | white);

        let at_value = behind(comma | colon | open, white, &mut self.value);
        let operand = behind(open | quotes & outside, white, &mut self.operand);
        let scalar_start = scalar & !behind(scalar, 0, &mut self.scalar);
        let empty = close & at_value & operand;
        let wrong = at_value ^ (open | quotes & !outside | scalar_start | empty) | colon & !operand;
        (wrong == 0).then_some(Tokens { open, close, colon, comma, scalar, at_value, empty })
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
        self.key = ((comma | open) >> 63) + u64::from(over);
        let wrong_in_object = (all & !rest ^ colon) & !empty;

        let mut in_object = 0u64.wrapping_sub(self.stack & 1);
        let mut brackets = (open | close) & !self.walked;
        self.walked = 0;
        if brackets == 0 {
            return wrong_in_object & in_object | colon & !in_object == 0;
        }
        let brace = block.shifted_left_by_2().top_bits();
        let within = Within::of(open, close, brace, &mut brackets);
        // What is left closes containers that were open before, and then opens others.
        let (closing, opening) = (close & brackets, open & brackets);
        let kinds = _pext_u64(brace, opening);
        // Outside of all, nothing may open or close: the bracket that led there must be the last.
        let outer = self.stack.unbounded_shr(closing.count_ones());
        if outer <= OUTSIDE && closing.leading_zeros() != (open | close).leading_zeros() {
            return false;
        }
        let opened = opening.count_ones();
        if outer.leading_zeros() <= opened {
            // No room on the stack.
            return false;
        }
        // Those behind which the container is of another kind than before them.
        let changes = _pdep_u64(self.stack ^ self.stack >> 1, closing)
            | _pdep_u64(kinds ^ (kinds << 1 | outer & 1), opening);
        in_object ^= prefix_xor(changes << 1);
        // The last one that opens is the innermost.
        let pushed = if opened > 1 { kinds.reverse_bits() >> (64 - opened) } else { kinds };
        self.stack = outer << opened | pushed;
        in_object = in_object & !within.all | within.in_objects;
        wrong_in_object & in_object | colon & !in_object | close & (brace ^ in_object) == 0
    }
}

/// The bytes of containers that begin and end in a block, without their opening brackets.
struct Within {
    all: u64,
    /// Those that are directly in an object.
    in_objects: u64,
}

impl Within {
    /// Takes the brackets of such containers out of `brackets`: those of the innermost ones first, all at once.
    #[target_feature(enable = "bmi1,bmi2,popcnt")]
    #[inline]
    fn of(open: u64, close: u64, brace: u64, brackets: &mut u64) -> Self {
        let mut within = Self { all: 0, in_objects: 0 };
        loop {
            // Next to each other among the brackets, an opening one and then a closing one.
            let pairs = _pext_u64(open, *brackets) & _pext_u64(close, *brackets) >> 1;
            if pairs == 0 {
                return within;
            }
            let (opening, closing) = (_pdep_u64(pairs, *brackets), _pdep_u64(pairs << 1, *brackets));
            let inside = closing.wrapping_sub(opening) << 1;
            let in_objects = inside & !inside.wrapping_add((opening & brace) << 1);
            within.in_objects |= in_objects & !within.all;
            within.all |= inside;
            *brackets ^= opening | closing;
        }
    }
}

/// The first bytes of the tokens behind these bytes, over whitespace. One in the next block is carried there.
#[inline]
fn behind(bytes: u64, white: u64, carry: &mut u64) -> u64 {
    let (sum, over) = white.overflowing_add(bytes << 1 | *carry);
    *carry = (bytes >> 63) + u64::from(over);
    sum & !white
}

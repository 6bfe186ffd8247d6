//! Finds where strings and brackets of a JSON text end, by masks over blocks of 64 bytes.
#![allow(unsafe_code, reason = "vector instructions must be asked for before they are used")]

/// The strings and brackets of a JSON text, read once from start to end: each requested offset must be after the one before.
/// For text that is not JSON, the results are meaningless.
#[derive(Clone)]
pub(super) struct Structure<'j> {
    bytes: &'j [u8],
    /// The offset of the block that the masks belong to.
    start: usize,
    masks: Masks,
    /// All bits, if the next block starts in a string.
    in_string: u64,
    /// Whether the first byte of the next block is escaped.
    escaped: u64,
}

/// A bit for each byte of a block, the lowest for the first.
#[derive(Clone, Default)]
struct Masks {
    /// Both ends of strings.
    quotes: u64,
    /// Opening brackets outside of strings, of both kinds.
    open: u64,
    /// Closing ones.
    close: u64,
}

/// The same, before it is known which bytes are in a string.
#[derive(Default)]
struct Characters {
    quotes: u64,
    backslashes: u64,
    open: u64,
    close: u64,
}

const BLOCK: usize = 64;

impl<'j> Structure<'j> {
    pub(super) fn of(text: &'j str) -> Self {
        let mut structure =
            Self { bytes: text.as_bytes(), start: 0, masks: Masks::default(), in_string: 0, escaped: 0 };
        structure.load();
        structure
    }

    pub(super) fn bytes(&self) -> &'j [u8] {
        self.bytes
    }

    /// Returns the offset after the closing quote of the string whose opening quote is at `at`.
    pub(super) fn string_end(&mut self, at: usize) -> Option<usize> {
        let mut quotes = self.masks_from(at + 1)?.quotes;
        while quotes == 0 {
            quotes = self.next_masks()?.quotes;
        }
        Some(self.start + quotes.trailing_zeros() as usize + 1)
    }

    /// Returns the offset after the closing bracket of the container whose opening bracket is at `at`.
    pub(super) fn container_end(&mut self, at: usize) -> Option<usize> {
        let Masks { mut open, mut close, .. } = self.masks_from(at + 1)?;
        let mut depth: u32 = 1;
        loop {
            if depth > close.count_ones() {
                depth = depth.checked_add(open.count_ones())? - close.count_ones();
            } else {
                let mut brackets = open | close;
                while brackets != 0 {
                    let bracket = brackets & brackets.wrapping_neg();
                    if open & bracket != 0 {
                        depth += 1;
                    } else if depth == 1 {
                        return Some(self.start + bracket.trailing_zeros() as usize + 1);
                    } else {
                        depth -= 1;
                    }
                    brackets ^= bracket;
                }
            }
            Masks { open, close, .. } = *self.next_masks()?;
        }
    }

    /// Returns the masks of the block that contains this offset, without the bits before the offset.
    fn masks_from(&mut self, at: usize) -> Option<Masks> {
        while at >= self.start + BLOCK {
            self.next_masks()?;
        }
        let from = u64::MAX << (at - self.start);
        let Masks { quotes, open, close } = self.masks;
        Some(Masks { quotes: quotes & from, open: open & from, close: close & from })
    }

    fn next_masks(&mut self) -> Option<&Masks> {
        self.start += BLOCK;
        (self.start < self.bytes.len()).then(|| {
            self.load();
            &self.masks
        })
    }

    fn load(&mut self) {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        let rest = &self.bytes[self.start..];
        let Characters { quotes, backslashes, open, close } =
            rest.first_chunk().map_or_else(|| characters(&padded(rest)), characters);
        let mut unescaped_quotes = quotes;
        if backslashes | self.escaped != 0 {
            // In a run of backslashes every second one escapes. Subtracting the run from the odd bits inverts those
            // between its start and its end, so that what is left separates the odd ones from the even ones of that run.
            let unescaped = backslashes & !self.escaped;
            let escaping = (unescaped << 1 | ODD).wrapping_sub(unescaped) ^ ODD;
            unescaped_quotes &= !(escaping ^ (backslashes | self.escaped));
            self.escaped = (escaping & backslashes) >> 63;
        }
        let in_string = prefix_xor(unescaped_quotes) ^ self.in_string;
        self.in_string = 0u64.wrapping_sub(in_string >> 63);
        self.masks = Masks { quotes: unescaped_quotes, open: open & !in_string, close: close & !in_string };
    }
}

/// In each bit the exclusive or of all bits up to it.
fn prefix_xor(mut bits: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << distance;
    }
    bits
}

fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

fn characters(block: &[u8; BLOCK]) -> Characters {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: all it needs is the instructions that were just asked for.
        return unsafe { characters_by_vectors(block) };
    }
    characters_one_by_one(block)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn characters_by_vectors(block: &[u8; BLOCK]) -> Characters {
    let block = crate::simd::Block::load(block);
    // Square brackets become braces; no other character of a JSON text does.
    let braces = block.lowercase();
    Characters {
        quotes: block.equal(b'"'),
        backslashes: block.equal(b'\\'),
        open: braces.equal(b'{'),
        close: braces.equal(b'}'),
    }
}

fn characters_one_by_one(block: &[u8; BLOCK]) -> Characters {
    let mut characters = Characters::default();
    for (index, byte) in block.iter().enumerate() {
        let mask = match byte {
            b'"' => &mut characters.quotes,
            b'\\' => &mut characters.backslashes,
            b'{' | b'[' => &mut characters.open,
            b'}' | b']' => &mut characters.close,
            _ => continue,
        };
        *mask |= 1 << index;
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_find_what_a_walk_finds() {
        for byte in 0..=u8::MAX {
            let mut block = [b'x'; BLOCK];
            for (index, other) in block.iter_mut().enumerate() {
                if (index + usize::from(byte)).is_multiple_of(3) {
                    *other = byte;
                }
            }
            // What lowercase makes a brace of is a control character, which no JSON text has, or no start of a character.
            if byte & 0x20 == 0 && !byte.is_ascii_graphic() {
                continue;
            }
            let (quick, slow) = (characters(&block), characters_one_by_one(&block));
            assert_eq!(quick.quotes, slow.quotes, "{byte}");
            assert_eq!(quick.backslashes, slow.backslashes, "{byte}");
            assert_eq!((quick.open, quick.close), (slow.open, slow.close), "{byte}");
        }
    }

    #[test]
    fn strings_and_containers_end_where_they_do_at_every_place_in_a_block() {
        for pad in 0..=130 {
            let pad = "x".repeat(pad);
            for string in [r#""""#, r#""a""#, r#""\"""#, r#""\\""#, r#""\\\"[{\\""#, "\"\u{e9}]\""] {
                let text = format!("[\"{pad}\",{string},[{{\"a\":[{string}]}}]] ");
                let start = pad.len() + 4;
                let mut structure = Structure::of(&text);
                assert_eq!(structure.string_end(1), Some(pad.len() + 3));
                assert_eq!(structure.string_end(start), Some(start + string.len()), "{text}");
                assert_eq!(structure.container_end(start + string.len() + 1), Some(text.len() - 2), "{text}");
                assert_eq!(Structure::of(&text).container_end(0), Some(text.len() - 1), "{text}");
            }
        }
    }
}

//! Fast validation of JSON, without a tree and without a loop over its bytes.
//!
//! The text is read in blocks of 64 bytes. Each kind of byte has a mask, with a bit for each byte of the block, and the
//! grammar of RFC 8259 becomes relations between masks: a mask shifted by one bit is "what follows these bytes", a sum of
//! masks is "where these runs end". Of brackets, those that match within a block are found together, from the innermost
//! out; the others go one by one onto a stack, since the meaning of a comma or a colon depends on the container.
#![allow(unsafe_code, reason = "vector instructions must be asked for before they are used")]

/// Whether this certainly is one JSON value without line breaks. Never true for text that is not JSON, but not always true
/// for JSON: not with line breaks, with whitespace before the outermost bracket or with more than some 60 levels, nor on
/// a processor without the vector instructions. A slower parser decides then, and says what is wrong.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub fn is_json_line(text: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("pclmulqdq")
    {
        // SAFETY: it needs nothing but the instructions that were just detected.
        return unsafe { avx2::is_json_line(text.as_bytes()) };
    }
    false
}

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    const DOCUMENTS: [&str; 12] = [
        r#"{"id":17,"name":"Zoë \"Z\" Bakker","vip":false,"tags":[],"note":null,"total":-0.50,"at":[1.5e-7,-64.77,0]}"#,
        r#"[{"a":{"b":[[],{},[{}]]},"c":true},{"d":"\u00C4\ud800\\"},"\\\"\/\b\f\n\r\t",1E+5,0.0,[true,false,null]]"#,
        r#"{"items": [{"sku" : "KT-1", "price": 43.00}, { }, [ ] ], "x":	[1 , 2	]} "#,
        r#"["{}[],:","\\\\\\","\\\\\\\"","👨‍👩‍👧‍👦","xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]"#,
        r#"{"":{"":{"":[[[[{"":0}]]]]}},"k":12345678901234567890.12345678901234567890e+12345678901234567890}"#,
        r#""a string""#,
        "-12.5e10",
        "true",
        "[-1.5,-0.25,-3e5,-4E-7,true,false,null,0,-0,1e0,10,0.1e+5,-10.01,null,true,false,-1.25e-10,1.5,-64.7731]",
        "[[-64.7731,-0.128],[-64.7731,-0.128],[64.7731,0.128],[{},[],{\"a\":[]}],[[[-1],[0]],[1]],[-64.7731,-0.128]]",
        "[null,true,false,null,true,false,null,true,false,null,true,false,null,true,false,null,true,false]",
        "[1e5 , -1E+5	, 2.5e-3 ,{\"a\":-1.5e3, \"b\" :null,\"c\":true },[false,false],  [ null ] ]",
    ];
    /// Values and what is none, for every offset in a block.
    const PIECES: &[&str] = &[
        "true",
        "truex",
        "true1",
        "false\0",
        "nul",
        "-12.50e+10",
        "12.5.5",
        "1.",
        "1.}",
        "00",
        "10",
        "-01",
        "-0",
        "-0.50,-12.5,-7",
        "-",
        "--1",
        "-.5",
        "- 1",
        "-x",
        "1-2",
        "-1-2",
        "-1.-2",
        "-1e-2,-3",
        "1e5-",
        "1e5e5",
        "1e+5e5",
        "1.5e-7,-2E3,1e0",
        "1e",
        "1e+",
        "1e+-5",
        "1e.5",
        "e5",
        "-e5",
        "12345678e5",
        "true,null,false,true",
        "null,nulls",
        "[true,[null],{},[false]]",
        "[[1],[2],{\"a\":[3,{}]},[4]]",
        "[[1],[2],{\"a\",[3,{}]},[4]]",
        "[[1],[2],{\"a\":[3,{]}},[4]]",
        "[1],[2]],[3],[4",
        r#""\\\"""#,
        r#""\\\""#,
        r#""\u12aF""#,
        r#""\u12g4""#,
        r#""\x""#,
        r#"{"a":1}"#,
        r#"{"a" 	: [ ]}"#,
        r#"{"a",1}"#,
        r#"{"a":1:2}"#,
        "{1:2}",
        "{ }",
        "[1,]",
        "[,1]",
        "[1 2]",
        r#"["a":1]"#,
        "{]",
        "[}",
        "]",
        "1,2",
        r#""a":1"#,
        r#"{},"a":[]"#,
        "\u{1}",
        "\"\t\"",
        "é",
        "[[{}],[]]",
        "",
        r#""a"b"#,
        r#""a""b""#,
    ];
    const CHARACTERS: &[u8] = b"{}[],:\"\\u0123456789-+.eEtruefalsnA /\t\n\x00\x1f\x7f";

    /// Whether it was accepted, which it must not be if it is no JSON and must be if it is, with the known exceptions.
    fn checked(text: &str) -> bool {
        let accepted = is_json_line(text);
        let valid = serde_json::from_str::<&RawValue>(text).is_ok();
        let hard = text.contains(['\n', '\r'])
            || text.starts_with([' ', '\t'])
            || text.matches(['[', '{']).count() > 50;
        assert!(valid || !accepted, "{text:?} is not JSON");
        assert!(accepted || !valid || hard || !is_json_line("{}"), "{text:?} is JSON");
        accepted
    }

    /// Numbers without a pattern, the same ones each time: xorshift.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % limit
        }
    }

    #[test]
    fn validates_changed_documents_as_the_parser_does() {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut accepted = 0;
        for _ in 0..100_000 {
            let mut bytes = DOCUMENTS[numbers.below(DOCUMENTS.len())].as_bytes().to_vec();
            for _ in 0..=numbers.below(2) {
                let at = numbers.below(bytes.len());
                let end = (at + 1 + numbers.below(9)).min(bytes.len());
                let character = CHARACTERS[numbers.below(CHARACTERS.len())];
                match numbers.below(5) {
                    0 => bytes[at] = character,
                    1 => bytes.insert(at, character),
                    2 => bytes.splice(at..end, []).for_each(drop),
                    3 => bytes.extend_from_within(at..end),
                    _ => bytes.truncate(end),
                }
                // Whitespace at the end changes nothing, and so something is left to change.
                bytes.push(b' ');
            }
            if let Ok(text) = str::from_utf8(&bytes) {
                accepted += usize::from(checked(text));
            }
        }
        assert!(accepted > 5_000 || !is_json_line("{}"), "{accepted}");
    }

    #[test]
    fn validates_all_short_texts_as_the_parser_does() {
        let mut accepted = 0;
        for (alphabet, most) in [
            (&["{", "}", "[", "]", ",", ":", "\"", "\\", "u", "0", "1", "-", "e", ".", "t", " "][..], 4),
            (&["{", "}", "[", "]", ",", ":", "\"\"", "1", " "][..], 5),
            (&["0", "1", "-", "+", ".", "e", ",", "true", "\0"][..], 4),
        ] {
            for len in 0..=most {
                for number in 0..alphabet.len().pow(len) {
                    let tokens =
                        (0..len).map(|at| alphabet[number / alphabet.len().pow(at) % alphabet.len()]);
                    accepted += usize::from(checked(&tokens.collect::<String>()));
                }
            }
        }
        assert!(accepted > 500 || !is_json_line("{}"), "{accepted}");
    }

    #[test]
    fn validates_the_same_at_every_offset_in_a_block() {
        for piece in PIECES {
            for pad in (0..=130).map(|len| "x".repeat(len)) {
                checked(&format!("[\"{pad}\",{piece}]"));
                checked(&format!("{{\"{pad}\":{piece}}}"));
                checked(&format!("{{\"{pad}\":[{piece},{}0]}}", " ".repeat(pad.len())));
                checked(&format!("[{}{piece}{pad}", "1".repeat(pad.len())));
            }
        }
        for len in 1..=300 {
            assert!(checked(&"1".repeat(len)));
            assert!(checked(&format!("[\"{}\"]", "\\\\".repeat(len))));
            assert!(!checked(&format!("[\"{}\"]", "\\".repeat(2 * len - 1))));
        }
    }

    #[test]
    fn any_depth_is_safe() {
        for depth in 1..=100 {
            for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
                let text = |closed| format!("{}0{}", open.repeat(depth), close.repeat(closed));
                checked(&text(depth));
                assert!(!checked(&text(depth - 1)));
                assert!(!checked(&text(depth + 1)));
            }
        }
        for closed in [99_999, 100_000, 100_001] {
            checked(&("[".repeat(100_000) + &"]".repeat(closed)));
            assert!(checked(&("[".to_owned() + &"[],".repeat(closed) + "[]]")) || !is_json_line("{}"));
        }
    }
}

//! Fast validation of JSON, without a tree and without a loop over its bytes.
//!
//! The text is read in blocks of 64 bytes. Each kind of byte has a mask, with a bit for each byte of the block, and the
//! grammar of RFC 8259 becomes relations between masks: a mask shifted by one bit is "what follows these bytes", a sum of
//! masks is "where these runs end". Of brackets, those that match within a block are found together, from the innermost
//! out. What is left in a block closes containers of blocks before and then opens others: they go from and onto a stack of
//! bits, since the meaning of a comma or a colon depends on the container.
#![allow(unsafe_code, reason = "vector instructions must be asked for before they are used")]

use super::known::Known;

/// Validates one JSON value. Never takes text for JSON that is none, but does not know every JSON: not with more than some 60
/// levels, nor on a processor without the vector instructions. A slower parser decides then, and says what is wrong.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub fn validate(text: &str) -> Known {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("pclmulqdq")
    {
        // SAFETY: it needs nothing but the instructions that were just detected.
        return unsafe { avx2::validate(text.as_bytes()) };
    }
    Known::Nothing
}

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    const DOCUMENTS: [&str; 16] = [
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
        "\r\n{\n  \"id\": 17,\n  \"vip\": false,\r\n\t\"tags\": [\n    \"a\",\n    -0.50\n  ],\n  \"none\": [\n\n],\n  \"at\": 1e5\n}\n",
        "[\n                                                                null\n,\r\r\n\t\t-1\n,\n{\n}\n]",
        r#"[[[{"a":[{"b":[[{"c":{}}]]}]}]],{"d":[[{"e":{"f":{"g":[[[0]]]}}}]]},[{"h":{"i":[[[{"j":[{"k":[[]]}]}]]]}}]]"#,
        "[[[[[[[[[[[[{\"a\":[[[[[[[[[[{\"b\":{\"c\":[[0]]}}]]]],[[[[1]]]]]]]]]]},{}]]]]]]],[[[[[[[]]]]]]]]]]]]",
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
        "[\n1\r\n,\t2\n]",
        "{\n\"a\"\n:\r\ntrue\n}",
        "null\n,false\r,true\t",
        "1\n2",
        "tr\nue",
        "-\n1",
        "1\n.5",
        "1.\n5",
        "1e\n5",
        "\"\n\"",
        "]]]],[[{\"a\":[[1]]}]],[[[[1",
        "\"\t\"",
        "é",
        "[[{}],[]]",
        "",
        r#""a"b"#,
        r#""a""b""#,
    ];
    const CHARACTERS: &[u8] = b"{}[],:\"\\u0123456789-+.eEtruefalsnA /\t\n\x00\x1f\x7f";

    /// Whether it was accepted, which it must not be if it is no JSON and must be if it is and has few levels.
    fn checked(text: &str) -> bool {
        let known = validate(text);
        let accepted = known != Known::Nothing;
        let valid = serde_json::from_str::<&RawValue>(text).is_ok();
        let deep = text.matches(['[', '{']).count() > 50;
        assert!(valid || !accepted, "{text:?} is not JSON");
        assert!(accepted || !valid || deep || !here(), "{text:?} is JSON");
        if known == (Known::Json { one_line: true }) {
            assert!(!text.contains(['\n', '\r']), "{text:?} is not one line");
        } else if accepted {
            assert!(text.contains(['\n', '\r']) || text.starts_with([' ', '\t']), "{text:?} is one line");
        }
        accepted
    }

    /// Whether this processor has the instructions.
    fn here() -> bool {
        validate("{}") != Known::Nothing
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

    /// Whitespace of every kind, mostly little.
    fn whitespace(numbers: &mut Numbers) -> impl Iterator<Item = u8> {
        let len = [0, 0, 1, 1, 2, 3, 9, 70][numbers.below(8)];
        let first = numbers.below(4);
        (0..len).map(move |at| b" \t\n\r"[(first + at % 5) % 4])
    }

    /// The same document with whitespace around its brackets, commas and colons.
    fn spread(document: &str, numbers: &mut Numbers) -> Vec<u8> {
        let mut spread = Vec::new();
        let (mut in_string, mut escaped) = (false, false);
        for byte in document.bytes() {
            in_string ^= byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            if !in_string && b"{}[],:".contains(&byte) {
                spread.extend(whitespace(numbers));
                spread.push(byte);
                spread.extend(whitespace(numbers));
            } else {
                spread.push(byte);
            }
        }
        spread
    }

    /// `JSON_CASES` says how many; 50,000 take a moment.
    #[test]
    fn validates_changed_documents_as_the_parser_does() {
        let cases = std::env::var("JSON_CASES").map_or(50_000, |cases| cases.parse().expect("a number"));
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut accepted = 0;
        for case in 0..cases {
            let document = DOCUMENTS[numbers.below(DOCUMENTS.len())];
            let mut bytes = document.as_bytes().to_vec();
            if numbers.below(3) == 0 {
                bytes = spread(document, &mut numbers);
                assert!(checked(str::from_utf8(&bytes).expect("whitespace between characters")) || !here());
            }
            for _ in 0..=numbers.below(2) {
                let at = numbers.below(bytes.len());
                let end = (at + 1 + numbers.below(9)).min(bytes.len());
                let character = CHARACTERS[numbers.below(CHARACTERS.len())];
                match numbers.below(6) {
                    0 => bytes[at] = character,
                    1 => bytes.insert(at, character),
                    2 => bytes.splice(at..end, []).for_each(drop),
                    3 => bytes.extend_from_within(at..end),
                    4 => bytes.splice(at..at, whitespace(&mut numbers)).for_each(drop),
                    _ => bytes.truncate(end),
                }
                // Whitespace at the end changes nothing, and so something is left to change.
                bytes.push(b' ');
            }
            if let Ok(text) = str::from_utf8(&bytes) {
                accepted += usize::from(checked(text));
            }
            if case % 100_000_000 == 99_999_999 {
                println!("{} cases", case + 1);
            }
        }
        assert!(accepted > cases / 20 || !here(), "{accepted}");
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
        assert!(accepted > 500 || !here(), "{accepted}");
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
        // Open containers that look like the end of the stack once those around them have fallen off it.
        for depth in 1..=100 {
            let unclosed = format!("[[[[[{{\"a\":[{}{}", "[".repeat(depth), "]".repeat(depth));
            assert!(!checked(&unclosed), "{unclosed}");
        }
        for closed in [99_999, 100_000, 100_001] {
            checked(&("[".repeat(100_000) + &"]".repeat(closed)));
            assert!(checked(&("[".to_owned() + &"[],".repeat(closed) + "[]]")) || !here());
        }
    }
}

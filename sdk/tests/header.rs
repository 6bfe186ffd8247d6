//! Header fields: building, reading, and what others got wrong.
#![cfg(not(feature = "iggy_common"))] // these are the types of this crate
#![allow(clippy::unwrap_used)]

use arbtest::arbtest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iggy_connector_sdk::{HeaderError, HeaderField, HeaderKey, HeaderKind, HeaderValue, decode_headers};
use serde_json::json;

const KINDS: [HeaderKind; 15] = [
    HeaderKind::Raw,
    HeaderKind::String,
    HeaderKind::Bool,
    HeaderKind::Int8,
    HeaderKind::Int16,
    HeaderKind::Int32,
    HeaderKind::Int64,
    HeaderKind::Int128,
    HeaderKind::Uint8,
    HeaderKind::Uint16,
    HeaderKind::Uint32,
    HeaderKind::Uint64,
    HeaderKind::Uint128,
    HeaderKind::Float32,
    HeaderKind::Float64,
];

/// Through the way that lets any length pass, as a producer's mistake arrives.
fn unchecked(kind: HeaderKind, base64: &str) -> HeaderValue {
    serde_json::from_value(json!({"kind": kind, "value": base64})).unwrap()
}

#[test]
fn kinds_have_their_names_and_indices() {
    for (index, kind) in KINDS.into_iter().enumerate() {
        let name = kind.to_string();
        assert_eq!(name, format!("{kind:?}").to_lowercase());
        assert_eq!(name.parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
        assert_eq!(serde_json::from_value::<HeaderKind>(json!(name)).unwrap(), kind);
        assert_eq!(postcard::to_stdvec(&kind).unwrap(), [u8::try_from(index).unwrap()]);
    }
    assert!(KINDS.is_sorted());
    assert_eq!("int7".parse::<HeaderKind>(), Err(HeaderError::UnknownKind("int7".into())));
}

#[test]
fn every_type_goes_in_and_comes_out() {
    macro_rules! round_trip {
        ($($value:expr, $type:ty, $kind:ident, $accessor:ident, $text:expr;)*) => {$(
            let value: $type = $value;
            let field = HeaderValue::try_from(value.clone()).unwrap();
            assert_eq!(field.kind(), HeaderKind::$kind);
            assert_eq!(field.$accessor().unwrap(), value);
            assert_eq!(<$type>::try_from(&field).unwrap(), value);
            assert_eq!(<$type>::try_from(field.clone()).unwrap(), value);
            assert_eq!(field.to_string_value(), $text);
            assert_eq!(field.to_string(), format!("{}: {}", HeaderKind::$kind, $text));
            assert_eq!(field.value(), field.as_bytes());
            for kind in KINDS.into_iter().filter(|kind| *kind != HeaderKind::$kind) {
                let other = unchecked(kind, "AA==");
                let expected = HeaderError::Kind { expected: HeaderKind::$kind, found: kind };
                assert_eq!(<$type>::try_from(&other), Err(expected));
            }
        )*};
    }
    round_trip! {
        vec![0, 255], Vec<u8>, Raw, as_raw, r#"b"\0\xff""#;
        "żółć".to_owned(), String, String, as_str, "żółć";
        true, bool, Bool, as_bool, "true";
        i8::MIN, i8, Int8, as_int8, "-128";
        i16::MIN, i16, Int16, as_int16, "-32768";
        i32::MIN, i32, Int32, as_int32, "-2147483648";
        i64::MIN, i64, Int64, as_int64, "-9223372036854775808";
        i128::MIN, i128, Int128, as_int128, "-170141183460469231731687303715884105728";
        u8::MAX, u8, Uint8, as_uint8, "255";
        u16::MAX, u16, Uint16, as_uint16, "65535";
        u32::MAX, u32, Uint32, as_uint32, "4294967295";
        u64::MAX, u64, Uint64, as_uint64, "18446744073709551615";
        u128::MAX, u128, Uint128, as_uint128, "340282366920938463463374607431768211455";
    }
    assert_eq!(HeaderValue::from(123.01f32).to_string_value(), "123.01");
    assert_eq!(HeaderValue::from(-12.5).to_string_value(), "-12.5");
    assert_eq!(f64::try_from(HeaderValue::from(-0.1)).unwrap().to_bits(), (-0.1f64).to_bits());
    assert_eq!(f32::try_from(HeaderValue::from(1.5f32)).unwrap().to_bits(), 1.5f32.to_bits());
}

#[test]
fn lengths_are_checked_when_built() {
    for length in [0, 256] {
        let error = HeaderError::Length(length);
        assert_eq!(HeaderKey::try_from("x".repeat(length)), Err(error.clone()));
        assert_eq!("x".repeat(length).parse::<HeaderValue>(), Err(error.clone()));
        assert_eq!(HeaderValue::try_from(vec![0; length]), Err(error.clone()));
        assert_eq!(HeaderValue::from_raw(HeaderKind::Raw, &vec![0; length]), Err(error));
    }
    for length in [1, 255] {
        assert_eq!(HeaderKey::try_from("x".repeat(length)).unwrap().as_bytes().len(), length);
        assert_eq!(HeaderKey::try_from(&vec![0; length][..]).unwrap().as_bytes().len(), length);
    }
    assert_eq!(
        HeaderValue::from_raw(HeaderKind::Int32, &[1, 2]),
        Err(HeaderError::Malformed(HeaderKind::Int32))
    );
}

#[test]
fn bytes_that_are_not_of_their_kind() {
    for kind in KINDS {
        for base64 in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let text = unchecked(kind, base64).to_string_value();
            let expected = match (kind, base64) {
                (HeaderKind::Raw | HeaderKind::String, _) => continue,
                (HeaderKind::Bool, "AAAA" | "AAAAAAAAAAAAAAAAAAAAAAAAAAAA") => "false".to_owned(),
                _ => format!("<malformed {kind}>"),
            };
            assert_eq!(text, expected);
        }
    }
    let field = unchecked(HeaderKind::Int32, "AAA=");
    assert_eq!(field.as_int32(), Err(HeaderError::Malformed(HeaderKind::Int32)));
    let field = unchecked(HeaderKind::Bool, "Ag==");
    assert_eq!(field.as_bool(), Err(HeaderError::Malformed(HeaderKind::Bool)));
    assert_eq!(field.to_string_value(), "true");
    let text = unchecked(HeaderKind::String, "eP8=");
    assert_eq!(text.as_str(), Err(HeaderError::Malformed(HeaderKind::String)));
    assert_eq!(text.to_string_value(), "x\u{fffd}");
}

#[test]
fn order_is_by_kind_then_bytes() {
    let mut fields: Vec<HeaderKey> =
        vec![2u64.into(), "b".parse().unwrap(), 1u64.into(), true.into(), "a".parse().unwrap()];
    fields.push(HeaderField::try_from(vec![9]).unwrap());
    fields.sort();
    let texts: Vec<_> = fields.iter().map(HeaderField::to_string).collect();
    assert_eq!(texts, ["raw: b\"\\t\"", "string: a", "string: b", "bool: true", "uint64: 1", "uint64: 2"]);
}

#[test]
fn serde_form() {
    let field = HeaderValue::from(42u32);
    assert_eq!(serde_json::to_value(&field).unwrap(), json!({"kind": "uint32", "value": "KgAAAA=="}));
    assert_eq!(unchecked(HeaderKind::Uint32, "KgAAAA=="), field);
    assert_eq!(unchecked(HeaderKind::Uint32, "KgAAAA"), field, "padding may be missing");
    assert!(serde_json::from_value::<HeaderValue>(json!({"kind": "uint32", "value": "*"})).is_err());
}

#[test]
fn any_bytes_decode_or_fail() {
    arbtest(|u| {
        let bytes: Vec<u8> = u.arbitrary()?;
        for (key, value) in decode_headers(&bytes).into_iter().flatten().flatten() {
            let _ = (key.to_string_value(), value.to_string_value());
        }
        Ok(())
    })
    .budget_ms(300);
}

#[test]
fn any_field_has_a_text() {
    arbtest(|u| {
        let (kind, bytes): (_, Vec<u8>) = (*u.choose(&KINDS)?, u.arbitrary()?);
        let field = unchecked(kind, &STANDARD.encode(&bytes));
        assert_eq!(field.as_bytes(), &bytes[..]);
        assert!(!field.to_string_value().is_empty() || (kind == HeaderKind::String && bytes.is_empty()));
        if let Ok(checked) = HeaderValue::from_raw(kind, &bytes) {
            assert_eq!(checked, field);
        }
        Ok(())
    })
    .budget_ms(300);
}

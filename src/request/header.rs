//! The headers of a message, looked up by name.

use base64::{Engine, engine::general_purpose::STANDARD};
use iggy_connector_sdk::{BorrowedField, BorrowedHeaders, HeaderKind};

/// Returns the header with this name as text: text unchanged, numbers in decimal, other bytes as base64 (RFC 4648 section 4).
/// `None` if the message has no such header, or its headers cannot be read.
pub(crate) fn header(headers: &[u8], name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    for header in BorrowedHeaders::read(headers).ok()? {
        let (key, value) = header.ok()?;
        bytes.clear();
        if !is_named(key, name, &mut bytes)? {
            continue;
        }
        bytes.clear();
        if value.kind() != HeaderKind::Raw {
            return Some(value.decode_into(&mut bytes).ok()?.to_string());
        }
        value.decode_into(&mut bytes).ok()?;
        return Some(String::from_utf8(bytes).unwrap_or_else(|raw| STANDARD.encode(raw.as_bytes())));
    }
    None
}

/// Whether a key has this name; `None` if it cannot be read.
fn is_named(key: BorrowedField<'_>, name: &str, bytes: &mut Vec<u8>) -> Option<bool> {
    let shown = key.decode_into(bytes).ok()?;
    if key.kind() != HeaderKind::String {
        return Some(shown.to_string() == name);
    }
    // Most names are text, which needs no copy to be compared.
    drop(shown);
    Some(bytes == name.as_bytes())
}

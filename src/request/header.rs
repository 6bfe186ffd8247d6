//! The headers of a message, looked up by name.

use base64::{Engine, engine::general_purpose::STANDARD};
use iggy_connector_sdk::{BorrowedHeaders, HeaderKind};

/// The header with this name as text: text as it is, numbers in decimal, other bytes as base64 (RFC 4648 section 4).
/// `None` where the message has none, or its headers cannot be read.
pub(crate) fn header(headers: &[u8], name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    for header in BorrowedHeaders::read(headers).ok()? {
        let (key, value) = header.ok()?;
        bytes.clear();
        // Most names are as long as their text.
        let shown = key.decode_into(&mut bytes).ok()?;
        let is_it = if key.kind() == HeaderKind::String {
            bytes == name.as_bytes()
        } else {
            shown.to_string() == name
        };
        if !is_it {
            continue;
        }
        bytes.clear();
        let shown = value.decode_into(&mut bytes).ok()?;
        if value.kind() != HeaderKind::Raw {
            return Some(shown.to_string());
        }
        return Some(String::from_utf8(bytes).unwrap_or_else(|raw| STANDARD.encode(raw.as_bytes())));
    }
    None
}

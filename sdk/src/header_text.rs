//! A header field as text.

use std::fmt::{self, Display};

use bytes::Bytes;

use crate::HeaderKind;

/// A field as text, whatever its kind and bytes: numbers in decimal, text unchanged (invalid UTF-8 replaced), raw bytes as a
/// Rust byte string, `<malformed int32>` for bytes that do not match their kind.
pub(crate) struct Text<'b> {
    pub(crate) kind: HeaderKind,
    pub(crate) bytes: &'b [u8],
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            HeaderKind::Raw => write!(f, "{:?}", Bytes::copy_from_slice(self.bytes)),
            HeaderKind::String => f.write_str(&String::from_utf8_lossy(self.bytes)),
            HeaderKind::Bool => match self.bytes {
                [first, ..] => write!(f, "{}", *first != 0),
                [] => self.malformed(f),
            },
            HeaderKind::Int8 => self.number(f, i8::from_le_bytes),
            HeaderKind::Int16 => self.number(f, i16::from_le_bytes),
            HeaderKind::Int32 => self.number(f, i32::from_le_bytes),
            HeaderKind::Int64 => self.number(f, i64::from_le_bytes),
            HeaderKind::Int128 => self.number(f, i128::from_le_bytes),
            HeaderKind::Uint8 => self.number(f, u8::from_le_bytes),
            HeaderKind::Uint16 => self.number(f, u16::from_le_bytes),
            HeaderKind::Uint32 => self.number(f, u32::from_le_bytes),
            HeaderKind::Uint64 => self.number(f, u64::from_le_bytes),
            HeaderKind::Uint128 => self.number(f, u128::from_le_bytes),
            HeaderKind::Float32 => self.number(f, f32::from_le_bytes),
            HeaderKind::Float64 => self.number(f, f64::from_le_bytes),
        }
    }
}

impl Text<'_> {
    fn number<const N: usize, T: Display>(
        &self,
        f: &mut fmt::Formatter<'_>,
        read: fn([u8; N]) -> T,
    ) -> fmt::Result {
        match self.bytes.try_into() {
            Ok(bytes) => write!(f, "{}", read(bytes)),
            Err(_) => self.malformed(f),
        }
    }

    fn malformed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<malformed {}>", self.kind)
    }
}

//! The kinds of header fields, and their errors.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// What the bytes of a header field mean; numbers are little-endian.
///
/// Displayed, parsed and named in serde's text formats in lower case (`raw`, `int32`); on the wire it is the index, 0 to 14.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "lowercase", parse_err_ty = HeaderError, parse_err_fn = unknown_kind)]
pub enum HeaderKind {
    /// Uninterpreted bytes, 1 to 255.
    Raw,
    /// UTF-8 text of 1 to 255 bytes.
    String,
    /// One byte, 0 or 1.
    Bool,
    /// `i8`, 1 byte.
    Int8,
    /// `i16`, 2 bytes.
    Int16,
    /// `i32`, 4 bytes.
    Int32,
    /// `i64`, 8 bytes.
    Int64,
    /// `i128`, 16 bytes.
    Int128,
    /// `u8`, 1 byte.
    Uint8,
    /// `u16`, 2 bytes.
    Uint16,
    /// `u32`, 4 bytes.
    Uint32,
    /// `u64`, 8 bytes.
    Uint64,
    /// `u128`, 16 bytes.
    Uint128,
    /// `f32`, 4 bytes.
    Float32,
    /// `f64`, 8 bytes.
    Float64,
}

impl HeaderKind {
    /// The length of a field of this kind, in bytes, if it is fixed.
    pub(crate) fn fixed_length(self) -> Option<usize> {
        match self {
            Self::Raw | Self::String => None,
            Self::Bool | Self::Int8 | Self::Uint8 => Some(1),
            Self::Int16 | Self::Uint16 => Some(2),
            Self::Int32 | Self::Uint32 | Self::Float32 => Some(4),
            Self::Int64 | Self::Uint64 | Self::Float64 => Some(8),
            Self::Int128 | Self::Uint128 => Some(16),
        }
    }
}

/// What is wrong with a header field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is too long or empty; holds the length found, in bytes.
    #[error("a header field has 1 to 255 bytes, not {0}")]
    Length(usize),
    /// It is of a different kind than requested.
    #[error("the header field is of kind {found}, not {expected}")]
    Kind {
        /// The requested kind.
        expected: HeaderKind,
        /// The kind it has.
        found: HeaderKind,
    },
    /// Its bytes do not match its kind.
    #[error("the bytes of the header field are not of kind {0}")]
    Malformed(HeaderKind),
    /// There is no kind of this name.
    #[error("there is no header kind {0:?}")]
    UnknownKind(String),
}

fn unknown_kind(name: &str) -> HeaderError {
    HeaderError::UnknownKind(name.to_owned())
}

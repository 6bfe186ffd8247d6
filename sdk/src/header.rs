//! User headers: typed fields, as keys and as values.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::header_kind::{HeaderError, HeaderKind};
use crate::header_text::Text;

/// The longest header field, in bytes.
const MAX_LENGTH: usize = 255;

/// The key of a header: mostly text, but any kind is allowed.
pub type HeaderKey = HeaderField<KeyMarker>;

/// The value of a header.
pub type HeaderValue = HeaderField<ValueMarker>;

/// Makes a [`HeaderField`] a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyMarker;

/// Makes a [`HeaderField`] a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueMarker;

/// A key or a value: a kind, and bytes that are little-endian for numbers.
///
/// Ordered by kind, then by bytes. In serde it is `kind` and `value`, the bytes in standard base64.
///
/// A field that is created here has 1 to 255 bytes and the length that its kind requires. One that is deserialized can have
/// any length: a message is not lost because of a wrong header. Then the typed accessors return an error and
/// [`to_string_value`](Self::to_string_value) returns `<malformed int32>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeaderField<M> {
    kind: HeaderKind,
    #[serde(with = "base64_text")]
    value: Bytes,
    #[serde(skip)]
    marker: PhantomData<M>,
}

impl<M> HeaderField<M> {
    /// Creates a field of any kind from its bytes.
    ///
    /// # Errors
    /// [`HeaderError::Length`] unless there are 1 to 255 bytes, [`HeaderError::Malformed`] if the kind has a fixed
    /// length and this is another.
    pub fn from_raw(kind: HeaderKind, bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.is_empty() || bytes.len() > MAX_LENGTH {
            return Err(HeaderError::Length(bytes.len()));
        }
        if kind.fixed_length().is_some_and(|length| length != bytes.len()) {
            return Err(HeaderError::Malformed(kind));
        }
        Ok(Self::new(kind, bytes))
    }

    fn new(kind: HeaderKind, bytes: &[u8]) -> Self {
        Self { kind, value: Bytes::copy_from_slice(bytes), marker: PhantomData }
    }

    /// What the bytes mean.
    pub fn kind(&self) -> HeaderKind {
        self.kind
    }

    /// The bytes, whatever the kind; cheap to clone.
    pub fn value(&self) -> Bytes {
        self.value.clone()
    }

    /// The bytes, whatever the kind.
    pub fn as_bytes(&self) -> &[u8] {
        &self.value
    }

    /// The bytes of a raw field.
    ///
    /// # Errors
    /// [`HeaderError::Kind`] for any other.
    pub fn as_raw(&self) -> Result<&[u8], HeaderError> {
        self.bytes_of(HeaderKind::Raw)
    }

    /// The text of a string field.
    ///
    /// # Errors
    /// [`HeaderError::Kind`] for any other, [`HeaderError::Malformed`] if it is not UTF-8.
    pub fn as_str(&self) -> Result<&str, HeaderError> {
        let bytes = self.bytes_of(HeaderKind::String)?;
        std::str::from_utf8(bytes).map_err(|_| HeaderError::Malformed(self.kind))
    }

    /// The value of a bool field: one byte, 0 or 1.
    ///
    /// # Errors
    /// [`HeaderError::Kind`] for any other, [`HeaderError::Malformed`] for other bytes.
    pub fn as_bool(&self) -> Result<bool, HeaderError> {
        match self.bytes_of(HeaderKind::Bool)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(HeaderError::Malformed(self.kind)),
        }
    }

    /// Returns the field as text, whatever its kind and bytes: numbers in decimal, text unchanged (invalid UTF-8 replaced),
    /// raw bytes as a Rust byte string (`b"\0\xff"`), `<malformed int32>` for bytes that do not match their kind.
    pub fn to_string_value(&self) -> String {
        Text { kind: self.kind, bytes: &self.value }.to_string()
    }

    fn bytes_of(&self, kind: HeaderKind) -> Result<&[u8], HeaderError> {
        if self.kind == kind {
            Ok(&self.value)
        } else {
            Err(HeaderError::Kind { expected: kind, found: self.kind })
        }
    }
}

/// What every kind of number has: its accessor, and the conversions to and from its type.
macro_rules! numbers {
    ($($kind:ident $type:ident $accessor:ident;)*) => {
        impl<M> HeaderField<M> {
            $(
                #[doc = concat!("The value of a field of kind ", stringify!($kind), ".")]
                ///
                /// # Errors
                /// [`HeaderError::Kind`] for any other, [`HeaderError::Malformed`] if its length is wrong.
                pub fn $accessor(&self) -> Result<$type, HeaderError> {
                    self.bytes_of(HeaderKind::$kind)?
                        .try_into()
                        .map($type::from_le_bytes)
                        .map_err(|_| HeaderError::Malformed(self.kind))
                }
            )*
        }

        $(
            impl<M> From<$type> for HeaderField<M> {
                fn from(number: $type) -> Self {
                    Self::new(HeaderKind::$kind, &number.to_le_bytes())
                }
            }
        )*
        extractions! { $($type $accessor,)* bool as_bool, }
    };
}

/// `TryFrom` a field, by value and by reference, through an accessor.
macro_rules! extractions {
    ($($type:ident $accessor:ident,)*) => {
        $(
            impl<M> TryFrom<HeaderField<M>> for $type {
                type Error = HeaderError;

                fn try_from(field: HeaderField<M>) -> Result<Self, HeaderError> {
                    field.$accessor().map(Into::into)
                }
            }

            impl<M> TryFrom<&HeaderField<M>> for $type {
                type Error = HeaderError;

                fn try_from(field: &HeaderField<M>) -> Result<Self, HeaderError> {
                    field.$accessor().map(Into::into)
                }
            }
        )*
    };
}

numbers! {
    Int8 i8 as_int8;
    Int16 i16 as_int16;
    Int32 i32 as_int32;
    Int64 i64 as_int64;
    Int128 i128 as_int128;
    Uint8 u8 as_uint8;
    Uint16 u16 as_uint16;
    Uint32 u32 as_uint32;
    Uint64 u64 as_uint64;
    Uint128 u128 as_uint128;
    Float32 f32 as_float32;
    Float64 f64 as_float64;
}

type OwnedBytes = Vec<u8>;
extractions! { String as_str, OwnedBytes as_raw, }

impl<M> From<bool> for HeaderField<M> {
    fn from(value: bool) -> Self {
        Self::new(HeaderKind::Bool, &[u8::from(value)])
    }
}

impl<M> TryFrom<&str> for HeaderField<M> {
    type Error = HeaderError;

    fn try_from(text: &str) -> Result<Self, HeaderError> {
        Self::from_raw(HeaderKind::String, text.as_bytes())
    }
}

impl<M> TryFrom<String> for HeaderField<M> {
    type Error = HeaderError;

    fn try_from(text: String) -> Result<Self, HeaderError> {
        Self::try_from(text.as_str())
    }
}

impl<M> TryFrom<&[u8]> for HeaderField<M> {
    type Error = HeaderError;

    fn try_from(bytes: &[u8]) -> Result<Self, HeaderError> {
        Self::from_raw(HeaderKind::Raw, bytes)
    }
}

impl<M> TryFrom<Vec<u8>> for HeaderField<M> {
    type Error = HeaderError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, HeaderError> {
        Self::try_from(bytes.as_slice())
    }
}

/// A string field.
impl<M> FromStr for HeaderField<M> {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        Self::try_from(text)
    }
}

/// The kind and the text: `int32: 42`.
impl<M> fmt::Display for HeaderField<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.to_string_value())
    }
}

/// Bytes as base64 text.
mod base64_text {
    use std::fmt;

    use base64::Engine;
    use bytes::Bytes;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    use crate::header_base64::BASE64;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                BASE64.decode(text).map(Bytes::from).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

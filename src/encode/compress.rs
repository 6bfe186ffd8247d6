//! Compression of bodies.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::config::Compression;

impl Compression {
    /// The coding, as the header `Content-Encoding` names it (RFC 9110 section 8.4.1, RFC 8878).
    pub(crate) fn coding(self) -> &'static str {
        match self {
            Self::Gzip { .. } => "gzip",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// The bytes of a body, compressed.
    pub(crate) fn compress(self, body: &[u8]) -> Bytes {
        // JSON shrinks to about a fifth; if it does not, the buffer grows.
        let out = Vec::with_capacity(body.len() / 4 + 64);
        let compressed = match self {
            Self::Gzip { level } => {
                let mut encoder = GzEncoder::new(out, flate2::Compression::new(level));
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Zstd { level } => zstd::stream::write::Encoder::new(out, level).and_then(|mut encoder| {
                encoder.set_pledged_src_size(Some(body.len() as u64))?;
                encoder.include_contentsize(true)?;
                encoder.write_all(body)?;
                encoder.finish()
            }),
        };
        // Writing to memory does not fail, and the level was checked when the configuration was read.
        compressed.expect("a body is compressed in memory").into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_reads_back() {
        let body = b"{\"n\":1}\n".repeat(10_000);
        for level in [1, 6, 9] {
            let gzip = Compression::Gzip { level }.compress(&body);
            assert!(gzip.len() < body.len() / 20);
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(&*gzip).read_to_end(&mut back).expect("gzip");
            assert_eq!(back, body);
        }
        for level in [1, 3, 22] {
            let zstd = Compression::Zstd { level }.compress(&body);
            assert_eq!(zstd::stream::decode_all(&*zstd).expect("zstd"), body);
        }
    }
}

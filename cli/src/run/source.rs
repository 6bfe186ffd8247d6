//! Reads the bytes of an input: decompressed, and without a byte order mark.

use std::io::{self, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// The first bytes of files, and the kind they indicate.
const STARTS: [(&[u8], Kind); 8] = [
    (b"\x1f\x8b", Kind::Gzip),
    (b"\x28\xb5\x2f\xfd", Kind::Zstd),
    (b"\xef\xbb\xbf", Kind::Mark),
    (b"\xff\xfe", Kind::Foreign("UTF-16 text: turn it into UTF-8 first, as iconv -f UTF-16 -t UTF-8 does")),
    (b"\xfe\xff", Kind::Foreign("UTF-16 text: turn it into UTF-8 first, as iconv -f UTF-16 -t UTF-8 does")),
    (b"\xfd7zXZ\0", Kind::Foreign("an xz archive: unpack it first, as xz -dc does")),
    (b"PK\x03\x04", Kind::Foreign("a zip archive: unpack it first, as unzip -p does")),
    (b"PAR1", Kind::Foreign("a Parquet file, not lines")),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Gzip,
    Zstd,
    /// A byte order mark of UTF-8.
    Mark,
    /// Something that has no lines.
    Foreign(&'static str),
}

/// The input does not consist of lines.
#[derive(Debug, thiserror::Error)]
#[error("it is {0}")]
pub(crate) struct NoLines(pub(crate) &'static str);

/// Reads an input in its own encoding, detected from its first bytes.
pub(crate) struct Source {
    state: Option<Box<dyn Read + Send>>,
    begun: bool,
    /// Whether bytes are passed unchanged, except for gzip and zstd.
    bytes: bool,
}

impl Source {
    /// Creates it; with `bytes`, input that is not text is accepted as well.
    pub(crate) fn new(source: impl Read + Send + 'static, bytes: bool) -> Self {
        Self { state: Some(Box::new(source)), begun: false, bytes }
    }

    fn begin(&self, source: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        let (kind, source) = peek(source)?;
        let (kind, source): (_, Box<dyn Read + Send>) = match kind {
            Some(Kind::Gzip) => peek(Box::new(MultiGzDecoder::new(BufReader::new(source))))?,
            Some(Kind::Zstd) => peek(Box::new(zstd::Decoder::new(source)?))?,
            other => (other, source),
        };
        match kind {
            Some(Kind::Mark) if !self.bytes => {
                let mut source = source;
                source.read_exact(&mut [0; 3])?;
                Ok(source)
            }
            Some(Kind::Foreign(what)) if !self.bytes => Err(io::Error::other(NoLines(what))),
            _ => Ok(source),
        }
    }
}

impl Read for Source {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begun = true;
            if let Some(source) = self.state.take() {
                self.state = Some(self.begin(source)?);
            }
        }
        // Without a state its start has failed, which ends it.
        self.state.as_mut().map_or(Ok(0), |source| source.read(target))
    }
}

/// Detects the kind of a source, and returns it with nothing consumed. It reads only as much as it needs for that, since more
/// may take long to arrive.
fn peek(mut source: Box<dyn Read + Send>) -> io::Result<(Option<Kind>, Box<dyn Read + Send>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    let kind = loop {
        if let Some((_, kind)) = STARTS.iter().find(|(start, _)| head == *start) {
            break Some(*kind);
        }
        if !STARTS.iter().any(|(start, _)| start.starts_with(&head)) {
            break None;
        }
        match source.read(&mut byte) {
            Ok(0) => break None,
            Ok(_) => head.push(byte[0]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    };
    Ok((kind, Box::new(Cursor::new(head).chain(source))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn read(bytes: Vec<u8>, raw: bool) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        Source::new(Cursor::new(bytes), raw).read_to_end(&mut read)?;
        Ok(read)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn inputs_are_unpacked_by_their_first_bytes() {
        for text in [&b""[..], b"\x1f", b"P", b"PK", b"{}\n", b"\xef\xbb{}"] {
            assert_eq!(read(text.to_vec(), false).unwrap(), text);
        }
        assert_eq!(read([gzip(b"a\n"), gzip(b"b\n")].concat(), false).unwrap(), b"a\nb\n");
        assert_eq!(read(zstd::encode_all(&b"a\nb"[..], 1).unwrap(), true).unwrap(), b"a\nb");
        assert_eq!(read(b"\xef\xbb\xbf{}".to_vec(), false).unwrap(), b"{}");
        assert_eq!(read(gzip(b"\xef\xbb\xbf{}"), false).unwrap(), b"{}");
        assert_eq!(read(b"\xef\xbb\xbf{}".to_vec(), true).unwrap(), b"\xef\xbb\xbf{}");
    }

    #[test]
    fn what_is_no_lines_is_told() {
        for bytes in [&b"\xff\xfe{\0"[..], b"PK\x03\x04...", b"\xfd7zXZ\0"] {
            let why = read(bytes.to_vec(), false).unwrap_err();
            let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<NoLines>());
            assert!(inner.is_some(), "{why}");
            assert_eq!(read(bytes.to_vec(), true).unwrap(), bytes);
        }
        assert!(read(gzip(b"abc")[..12].to_vec(), false).is_err(), "cut off");
    }
}

//! The identity of a message from a line: its input, line and payload. Idempotency keys are derived from it.

use std::{
    collections::hash_map::RandomState,
    fs::Metadata,
    hash::{BuildHasher, Hasher},
    path::Path,
};

/// The identity of an input.
#[derive(Debug, Clone)]
pub(crate) struct InputId {
    name: String,
    seed: u64,
}

impl InputId {
    /// The input with a name given by the user.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), seed: hash(0, name.as_bytes()) }
    }

    /// The identity of a file: it stays the same if lines are appended or the file is renamed; another file with the same
    /// name has another one.
    pub(crate) fn of_file(path: &Path, about: &Metadata) -> Self {
        let created = about.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let created = created.map_or(0, |time| time.as_nanos());
        Self::named(&format!("file:{}:{created:x}", file_id(path, about)))
    }

    /// The identity of an input that can only be read once, such as a pipe.
    pub(crate) fn of_run() -> Self {
        // Each has its own random keys.
        let random = || RandomState::new().build_hasher().finish();
        Self::named(&format!("{:016x}{:016x}", random(), random()))
    }

    /// Its value for `--input-id`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns an id that is the same for the same payload at the same offset of the same input, so that an endpoint
    /// recognizes repetitions, and differs for any other.
    pub(crate) fn message_id(&self, offset: u64, payload: &[u8]) -> u128 {
        u128::from(hash(self.seed, payload)) << 64 | u128::from(offset)
    }
}

#[cfg(unix)]
fn file_id(_path: &Path, about: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{:x}:{:x}", about.dev(), about.ino())
}

#[cfg(not(unix))]
fn file_id(path: &Path, _about: &Metadata) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    // Odd and without a pattern in its bits: the fractional part of the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(SPREAD);
        // Both halves, so that every bit of the word affects every bit of the hash.
        #[expect(clippy::cast_possible_truncation)]
        let folded = (product >> 64) as u64 ^ product as u64;
        folded.wrapping_add(SPREAD)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = mix(seed, bytes.len() as u64);
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, io::Write};

    use super::*;

    #[test]
    fn ids_are_stable_and_tell_messages_apart() {
        let input = InputId::named("a");
        assert_eq!(input.message_id(3, b"{\"n\":1}"), InputId::named("a").message_id(3, b"{\"n\":1}"));
        let payloads: Vec<Vec<u8>> = (0..20_000_u32).map(|n| format!("{{\"n\":{n}}}").into()).collect();
        let zeros = (0..40).map(|length| vec![0; length]);
        let ids: HashSet<u128> =
            payloads.iter().cloned().chain(zeros).map(|payload| input.message_id(7, &payload)).collect();
        assert_eq!(ids.len(), 20_040);
        assert_ne!(input.message_id(1, b"x"), input.message_id(2, b"x"));
        assert_ne!(input.message_id(1, b"x"), InputId::named("b").message_id(1, b"x"));
        assert_ne!(InputId::of_run().message_id(1, b"x"), InputId::of_run().message_id(1, b"x"));
    }

    #[test]
    fn a_file_is_the_same_when_it_grows_or_moves() {
        let folder = tempfile::tempdir().unwrap();
        let name = |name: &str| {
            let path = folder.path().join(name);
            InputId::of_file(&path, &fs::metadata(&path).unwrap()).name
        };
        let mut file = fs::File::create(folder.path().join("a")).unwrap();
        let first = name("a");
        file.write_all(b"1\n").unwrap();
        assert_eq!(name("a"), first);
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_eq!(name("b"), first);
        fs::write(folder.path().join("a"), "1\n").unwrap();
        assert_ne!(name("a"), first);
    }
}

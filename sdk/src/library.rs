//! Checks whether a file can be a library for this machine, before the system maps it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The numbers of processors in ELF (`e_machine`), as far as Rust's names for them are known here.
const MACHINES: [(&str, u16); 7] = [
    ("x86_64", 62),
    ("aarch64", 183),
    ("riscv64", 243),
    ("s390x", 22),
    ("powerpc64", 21),
    ("x86", 3),
    ("arm", 40),
];

/// Of the header of a 64-bit ELF file, and of one entry of its program header table.
const HEADER: usize = 64;
const ENTRY: usize = 56;
/// The type of an entry that is mapped into memory.
const LOAD: u32 = 1;

/// Checks a 64-bit ELF file; any other is left to the system.
///
/// # Errors
/// It is truncated, or made for another processor. The message says so.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    check_elf(path).map_err(|why| format!("it cannot be read: {why}"))?
}

fn check_elf(path: &Path) -> io::Result<Result<(), String>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut header = [0; HEADER];
    let read = file.read(&mut header)?;
    // Little-endian and of 64 bits (System V ABI, chapter 4), on a machine of that kind.
    let here = cfg!(all(target_endian = "little", target_pointer_width = "64"));
    if !here || !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(Ok(()));
    }
    if read < HEADER {
        return Ok(Err("the file is cut off".to_owned()));
    }
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let machine = word(18);
    let ours = MACHINES.iter().find(|(name, _)| *name == std::env::consts::ARCH);
    if let Some((name, number)) = ours
        && *number != machine
    {
        let theirs = MACHINES.iter().find(|(_, number)| *number == machine);
        let theirs = theirs.map_or_else(|| format!("processor {machine}"), |(name, _)| (*name).to_owned());
        return Ok(Err(format!("it is made for {theirs}, and this is {name}")));
    }
    let (entry_size, entries) = (u64::from(word(54)), u64::from(word(56)));
    let table = u64::from_le_bytes(header[32..40].try_into().unwrap_or_default());
    for index in 0..entries {
        let start = table.saturating_add(index * entry_size);
        if start.saturating_add(ENTRY as u64) > size {
            return Ok(Err("the file is cut off".to_owned()));
        }
        let mut entry = [0; ENTRY];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut entry)?;
        let long = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap_or_default());
        let end = long(8).saturating_add(long(32));
        if u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) == LOAD && end > size {
            return Ok(Err(format!(
                "the file is cut off: it has {size} bytes, and at least {end} belong to it"
            )));
        }
    }
    Ok(Ok(()))
}

//! Takes chance away from the standard library and tokio, which seed their hashers and their order of `select!` from it.
#![allow(unsafe_code, reason = "it stands in for a function of the C library")]

use std::cell::Cell;

thread_local! {
    /// What this thread's chance comes from; `None` in threads that run no seed.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes all chance of this thread come from a seed. It must be the first thing that the thread does.
pub(super) fn seed_thread(seed: u64) {
    SEED.set(Some(seed));
}

/// Stands in for `getrandom(2)` of the C library.
///
/// # Safety
/// `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // Nothing in this executable needs chance that nobody foresees.
    let mut random = super::random::Random(SEED.get().unwrap_or(u64::from(std::process::id())));
    for place in 0..length {
        let byte = random.between(0, 255).to_le_bytes()[0];
        // SAFETY: the caller gave this many bytes to write to.
        unsafe { buffer.add(place).write(byte) };
    }
    if SEED.get().is_some() {
        SEED.set(Some(random.between(0, u64::MAX - 1)));
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

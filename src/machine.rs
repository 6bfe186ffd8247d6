//! What this machine can run out of.

use std::io;

/// Whether the system had no file descriptor, thread, memory map or port left. That is a problem of this machine only, and
/// may pass at any time.
pub(crate) fn is_short(error: &io::Error) -> bool {
    #[cfg(unix)]
    let missing = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        // No port is left for another connection to the same address.
        libc::EADDRNOTAVAIL,
        // The error if a thread cannot be started.
        libc::EAGAIN,
    ];
    #[cfg(not(unix))]
    let missing: [i32; 0] = [];
    error.raw_os_error().is_some_and(|code| missing.contains(&code))
}

//! Notes what cannot be read.

use std::path::PathBuf;

use iggy_connector_http_sink::spool::Damage;

use crate::terminal::report;

/// Notes damage, and what was set aside of it. Returns whether that is nothing but what a crash leaves.
pub(super) fn note(damages: &[Damage], set_aside: &[(PathBuf, u64)]) -> bool {
    for damage in damages {
        report::note(&format!("warning: {damage}"));
    }
    for (path, bytes) in set_aside {
        report::note(&format!(
            "warning: {} bytes that could not be read are in {}",
            report::grouped(*bytes),
            path.display()
        ));
    }
    // A truncated end is caused by a crash, or by a write in progress.
    damages.iter().all(|damage| damage.tail)
}

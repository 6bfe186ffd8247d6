//! The store on disks that fail and forget.

use std::io::{self, ErrorKind};

use super::{Store, names};
use crate::spool::tests::disk::{Disk, Fault, Left};

fn open(disk: &Disk) -> Store {
    Store::with(disk.files(), None, 10_000, 1_000).expect("the disk is well")
}

/// The lines of all segments that are dead letters; `None` for one that nobody can read.
fn lines(disk: &Disk) -> Vec<Option<String>> {
    let mut segments: Vec<(u64, String)> =
        disk.names().into_iter().filter_map(|name| Some((names::segment_number(&name)?, name))).collect();
    segments.sort_unstable();
    let mut lines = Vec::new();
    for (_, name) in segments {
        let bytes = disk.bytes(&name);
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        lines.extend(bytes[..whole].split_inclusive(|byte| *byte == b'\n').map(|line| {
            let line = String::from_utf8_lossy(line);
            line.is_ascii().then(|| line.trim_end().to_owned()).filter(|line| !line.contains('\0'))
        }));
    }
    lines
}

/// Whether a line that was acknowledged is there once, and can be read.
fn is_kept(disk: &Disk, line: &str) -> bool {
    lines(disk).iter().filter(|found| found.as_deref() == Some(line)).count() == 1
}

#[test]
fn what_is_acknowledged_after_any_failed_operation_survives_a_power_cut() -> io::Result<()> {
    for fault in [
        Fault::Once(ErrorKind::Other),
        Fault::Several(ErrorKind::Other, 2),
        Fault::Several(ErrorKind::StorageFull, 3),
        Fault::Torn,
    ] {
        for at in 1..8 {
            for reopened in [false, true] {
                let mut disk = Disk::default();
                let mut store = open(&disk);
                store.append(b"first\n")?;
                disk.fail_at(at, fault);
                let second = store.append(b"second\nthird\n");
                disk.heal();
                if reopened {
                    drop(store);
                    disk = disk.after(Left::All);
                    store = open(&disk);
                }
                store.append(b"fourth\n")?;
                for left in [Left::Nothing, Left::Some(3), Left::Some(4)] {
                    let after = disk.after(left);
                    let name =
                        format!("{fault:?} at {at}, reopened: {reopened}, {left:?}: {:?}", lines(&after));
                    assert!(is_kept(&after, "first") && is_kept(&after, "fourth"), "{name}");
                    assert!(second.is_err() || is_kept(&after, "third"), "{name}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_disk_that_stays_full_gathers_no_empty_segments() -> io::Result<()> {
    let disk = Disk::default();
    let mut store = open(&disk);
    store.append(b"first\n")?;
    disk.is_full(true);
    for _ in 0..20 {
        store.append(b"second\n").expect_err("it is full");
    }
    disk.is_full(false);
    store.append(b"third\n")?;
    drop(store);
    let names: Vec<String> = disk.names();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(is_kept(&disk, "first") && is_kept(&disk, "third") && !is_kept(&disk, "second"));
    Ok(())
}

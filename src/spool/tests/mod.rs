//! Tests of the spool as a whole.

mod basics;
mod damage;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "../../../tests/support/disk.rs"]
pub(crate) mod disk;
mod export;
mod faults;
mod model;
mod races;
mod shares;
mod support;
mod together;
mod turns;

use crate::files::{Files, SegmentFile};

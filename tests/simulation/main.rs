//! The whole path from consume to settle, spool included, in one thread under a paused clock.
#![allow(clippy::unwrap_used)]

#[path = "../support/disk.rs"]
#[allow(dead_code, reason = "the spool's own tests use all of it")]
mod disk;
mod seam;

use iggy_connector_http_sink::world::{Files, SegmentFile};

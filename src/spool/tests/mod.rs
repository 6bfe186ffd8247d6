//! Tests of the spool as a whole.

mod basics;
mod support;

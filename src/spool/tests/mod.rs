//! Tests of the spool as a whole.

mod basics;
mod damage;
mod disk;
mod faults;
mod model;
mod races;
mod support;
mod together;

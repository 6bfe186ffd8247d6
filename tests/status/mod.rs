//! `[status]`, as an operator sees it, with the shipped defaults.
#![allow(clippy::float_cmp)] // what is compared are counts

mod alerts;
mod browser;
mod client;
mod give_up;
mod letters;
mod operator;
mod prometheus;
mod reloads;
mod seen;
mod sharing;

//! `[status]`: a page for people, metrics, probes and a JSON API, from the counters and states that delivery keeps anyway.
//!
//! ```text
//! listener (one thread an address, shared by connectors) -> access (who may) -> routes -> board -> report -> JSON, metrics, page
//! ```

mod access;
mod answer;
mod board;
mod chart;
mod exposition;
mod lanes;
mod letters;
mod listener;
mod page;
mod report;
mod routes;
mod server;

pub(crate) use board::Board;
pub(crate) use listener::Registration;
pub(crate) use report::HostReport;

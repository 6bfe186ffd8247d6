//! What became of each message, and what is done about those that were not delivered.

mod ledger;
mod outcome;

pub(crate) use ledger::Ledger;
pub(crate) use outcome::{Failure, Outcome, Reason, excerpt};

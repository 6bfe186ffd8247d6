//! What became of each message, and what is done about those that were not delivered.

mod dead_letters;
mod ledger;
mod tally;

pub(crate) use self::{
    dead_letters::DeadLetters,
    ledger::{Account, Ledger, Progress},
    tally::Tally,
};

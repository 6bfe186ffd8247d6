//! Settles each message, and takes care of those that were not delivered.

mod dead_letters;
mod ledger;
mod tally;

pub(crate) use self::{
    dead_letters::DeadLetters,
    ledger::{Account, Ledger, Progress},
    tally::Tally,
};

//! What of a request comes from its messages: placeholders, and the places they stand in.

mod escape;
mod fields;
mod pointer;
mod target;
mod template;

pub(crate) use self::target::{Likeness, Pieces, Rendered};
pub use self::{
    fields::Source,
    target::{Target, TargetTemplate},
    template::{Kind, Template},
};

//! The parts of a request that come from its messages: placeholders, escaped for their contexts, and forwarded headers; and
//! what the body of an answer says about each message.

mod escape;
mod fields;
mod form;
mod header;
mod ordering;
mod pointer;
mod structure;
mod target;
mod template;
mod trace;
mod verdict;

pub(crate) use self::fields::on_one_line;
pub(crate) use self::form::{Framing, Prepared};
pub(crate) use self::pointer::{Pointer, elements, unquoted};
pub(crate) use self::target::{Likeness, Pieces, Rendered};
pub(crate) use self::template::Part;
pub(crate) use self::trace::{Trace, TraceContext};
pub(crate) use self::verdict::{Item, ItemStatus, Items, Verdict};
pub use self::{
    fields::Source,
    form::{Form, TemplateFormat},
    ordering::Ordering,
    target::{Forwarded, Target, TargetTemplate},
    template::{Kind, Template},
    verdict::VerdictOf,
};

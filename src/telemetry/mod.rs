//! Counters that delivery feeds, for the log at close and for the status server, if there is one.

mod blocked;
mod counters;
mod endpoint;
mod heads;
mod held;
mod lanes;
mod metrics;
mod recent;
mod topic;

pub(crate) use counters::{Counters, Ended, FailedRange, Outcomes};
pub(crate) use endpoint::{AttemptEnd, EndpointMeter, Health, Reload, Verdict};
pub(crate) use heads::{Head, HeadOf, HeadWait};
pub(crate) use lanes::LaneWait;
pub(crate) use metrics::{BreakerLabels, EndpointLabels, LaneLabels, Metrics, MetricsRegistry, OTHER};
pub(crate) use recent::{INTERVAL, Interval};

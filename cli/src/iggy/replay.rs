//! Where a replay begins.

use std::{fmt, str::FromStr, time::UNIX_EPOCH};

use iggy::prelude::PollingStrategy;

use crate::since::since;

/// An offset, the same in each partition, or a time: messages that the server stored from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayFrom {
    Offset(u64),
    /// In microseconds since the Unix epoch.
    Time(u64),
}

impl FromStr for ReplayFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        since(text)
            .ok()
            .and_then(|time| u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok())
            .map(Self::Time)
            .ok_or_else(|| {
                "write an offset, such as 1000, a time in UTC, such as 2026-08-01T12:00:00Z, or how long ago, such as 2h"
                    .to_owned()
            })
    }
}

/// As used in the name of the group.
impl fmt::Display for ReplayFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "offset-{offset}"),
            Self::Time(micros) => write!(f, "time-{micros}"),
        }
    }
}

impl ReplayFrom {
    /// What the first poll of a partition asks for.
    pub(super) fn strategy(self) -> PollingStrategy {
        match self {
            Self::Offset(offset) => PollingStrategy::offset(offset),
            Self::Time(micros) => PollingStrategy::timestamp(micros.into()),
        }
    }

    /// Returns the group that replays for `group`: one per start, so that the offsets of `group` stay as they are, and an
    /// interrupted replay continues where it was.
    pub(super) fn group(self, group: &str) -> String {
        format!("{group}-replay-{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_times_and_durations_are_told_apart() {
        assert_eq!("17".parse(), Ok(ReplayFrom::Offset(17)));
        for text in ["1970-01-01T00:00:02Z", "1970-01-01 00:00:02"] {
            assert_eq!(text.parse(), Ok(ReplayFrom::Time(2_000_000)), "{text}");
        }
        let now = u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
        let Ok(ReplayFrom::Time(ago)) = "1h".parse() else { panic!("no time") };
        assert!((3_500_000_000..3_700_000_000).contains(&(now - ago)), "{ago}");
        assert!("yesterday".parse::<ReplayFrom>().is_err() && "-1".parse::<ReplayFrom>().is_err());
    }

    #[test]
    fn each_start_has_its_group() {
        assert_eq!(ReplayFrom::Offset(5).group("g"), "g-replay-offset-5");
        assert_eq!(ReplayFrom::Time(5).group("g"), "g-replay-time-5");
    }
}

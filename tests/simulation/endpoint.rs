//! What the endpoint says to a request.

use std::time::Duration;

use super::{
    history::Arrival,
    model::Nature,
    random::Random,
    scenario::{Scenario, Trouble},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    Answers {
        status: u16,
        /// In seconds, and whether as a date.
        retry_after: Option<(u64, bool)>,
    },
    /// 200, and in its body a status for each message, in their order.
    Items(Vec<u16>),
    /// For ever.
    Nothing {
        taken: bool,
    },
    Resets {
        taken: bool,
        reused: bool,
    },
    /// There is no connection.
    Refuses,
    /// As an HTTP/2 server that closes a connection.
    DoesNotProcess,
}

impl Says {
    /// Whether the messages have arrived, but for those that an item refuses.
    pub(super) fn takes(&self) -> bool {
        match self {
            Self::Answers { status, .. } => *status == 200,
            Self::Items(_) => true,
            Self::Nothing { taken } | Self::Resets { taken, .. } => *taken,
            Self::Refuses | Self::DoesNotProcess => false,
        }
    }
}

fn status(status: u16) -> Says {
    Says::Answers { status, retry_after: None }
}

/// What it says to a request that arrives now.
pub(super) fn says(scenario: &Scenario, arrival: &Arrival, now: Duration, random: &mut Random) -> Says {
    if let Some(weather) = scenario.weather.iter().find(|weather| (weather.from..weather.to).contains(&now)) {
        return match weather.kind {
            Trouble::Refused => Says::Refuses,
            Trouble::Unanswered => Says::Nothing { taken: random.percent(20) },
            Trouble::Reset => Says::Resets { taken: random.percent(20), reused: random.percent(30) },
            Trouble::Status(code) => status(code),
            Trouble::RetryAfter(status, seconds) => {
                Says::Answers { status, retry_after: Some((seconds, random.percent(30))) }
            }
        };
    }
    if random.percent(scenario.accidents) {
        return match random.between(0, 4) {
            0 => Says::Resets { taken: random.percent(30), reused: random.percent(50) },
            1 => Says::DoesNotProcess,
            2 => status(500),
            3 => Says::Nothing { taken: random.percent(30) },
            _ => status(503),
        };
    }
    if scenario.body_limit.is_some_and(|limit| arrival.body.length > limit) {
        return status(413);
    }
    let mut natures = arrival.ids.iter().map(|id| scenario.natures[id]);
    // A tombstone is answered by a status alone.
    if scenario.has("response") && arrival.body.length > 0 {
        let items: Option<Vec<u16>> = natures.clone().map(item).collect();
        if let Some(items) = items {
            return Says::Items(items);
        }
    }
    match natures.find(|nature| *nature != Nature::Good) {
        None | Some(Nature::Good | Nature::Undecodable) => status(200),
        Some(Nature::Bad(code) | Nature::Rejected(code) | Nature::Stuck(code)) => status(code),
        Some(Nature::TooLarge) => status(413),
        Some(Nature::Throttled) => Says::Answers { status: 429, retry_after: Some((1, false)) },
        Some(Nature::Unanswered) => Says::Nothing { taken: false },
    }
}

/// What an item says of its message; `None` of one that no answer has an item for.
fn item(nature: Nature) -> Option<u16> {
    match nature {
        Nature::Good | Nature::Undecodable => Some(200),
        Nature::Bad(code) | Nature::Rejected(code) | Nature::Stuck(code) => Some(code),
        Nature::Throttled => Some(429),
        Nature::TooLarge | Nature::Unanswered => None,
    }
}

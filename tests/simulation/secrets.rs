//! A token in a file, whose content changes while the sink runs.
//!
//! The configuration is read before there is a world to simulate, so the file is a real one; when it changes is the seed's
//! choice.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{history::History, scenario::Scenario, world::Clock};

/// The header that carries it.
const HEADER: &str = "x-token";
/// How long requests may go out with the old one: the file is looked at once a second.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// The file; gone when dropped.
#[derive(Debug)]
pub(super) struct Token {
    path: PathBuf,
    rotations: Vec<Duration>,
}

/// The content after this many rotations. Each has a length of its own: real clocks may not tell two writes apart.
fn content(rotations: usize) -> String {
    format!("token-{}", "x".repeat(rotations))
}

impl Token {
    /// The token of a scenario, if it has one.
    pub(super) fn of(scenario: &Scenario) -> Option<Self> {
        let rotations = scenario.rotations.clone();
        if rotations.is_empty() {
            return None;
        }
        // Of chance there is only what the seed gives, and other processes may run the same seed.
        let path = env::temp_dir().join(format!("simulation-{}-{}", process::id(), scenario.seed));
        fs::write(&path, content(0)).expect("the folder for temporary files can be written to");
        Some(Self { path, rotations })
    }

    /// Names it in a configuration.
    pub(super) fn configure(&self, config: &mut Value) {
        config["headers"] = json!({ HEADER: format!("${{file:{}}}", self.path.display()) });
    }

    /// Rotates it as its times come: now where they have come while there was no process, and until this runtime ends.
    pub(super) fn rotate(&self, history: &Arc<Mutex<History>>, clock: Clock) {
        let (path, rotations, history) = (self.path.clone(), self.rotations.clone(), history.clone());
        let rotate_those_due = move || {
            let mut history = history.lock().unwrap();
            loop {
                let done = history.rotated.len();
                let next = rotations.get(done)?.saturating_sub(clock.now());
                if !next.is_zero() {
                    return Some(next);
                }
                fs::write(&path, content(done + 1)).expect("it was written to before");
                history.rotated.push(clock.now());
            }
        };
        let mut next = rotate_those_due();
        tokio::spawn(async move {
            while let Some(time) = next {
                sleep(time).await;
                next = rotate_those_due();
            }
        });
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// How often the token of a request had been rotated; `None` where it has none.
pub(super) fn rotations(headers: &HeaderMap) -> Option<usize> {
    Some(headers.get(HEADER)?.len() - content(0).len())
}

/// Which requests went out with an old token for too long, or with another than they should have.
pub(super) fn check(scenario: &Scenario, history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for arrival in &history.arrivals {
        let Some(rotations) = arrival.rotations else {
            if !scenario.rotations.is_empty() {
                wrong.push(format!("a request at {:?} has no token", arrival.at));
            }
            continue;
        };
        let since = history.rotated.get(rotations).map(|next| arrival.at.saturating_sub(*next));
        if let Some(late) = since.filter(|late| *late > LOOKED_AT) {
            wrong.push(format!(
                "a request at {:?} has the token that was changed {late:?} before: the one after {rotations} rotations",
                arrival.at
            ));
        }
    }
    wrong
}

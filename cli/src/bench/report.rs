//! The result of `bench`, as a table and as JSON.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::worker::{Latency, Measured};
use crate::terminal::report::{self, grouped};

/// One run of one plugin.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) measured: Measured,
    /// The endpoint's count, if it is this program's.
    pub(crate) requests: Option<u64>,
    pub(crate) body_bytes: Option<u64>,
}

/// One plugin and its runs.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) plugin: PathBuf,
    pub(crate) version: String,
    pub(crate) runs: Vec<Run>,
}

impl Side {
    pub(crate) fn new(name: &'static str, plugin: &Path) -> Self {
        Self { name, plugin: plugin.to_owned(), version: String::new(), runs: Vec::new() }
    }

    fn spread(&self, figure: &Figure) -> Option<Spread> {
        Spread::of(self.runs.iter().map(figure.of).collect())
    }
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) this: Side,
    pub(crate) other: Option<Side>,
    pub(crate) setting: Value,
}

/// A row of the table.
struct Figure {
    key: &'static str,
    title: &'static str,
    decimals: usize,
    of: fn(&Run) -> Option<f64>,
}

const FIGURES: [Figure; 9] = [
    Figure {
        key: "messages_per_second",
        title: "messages/s",
        decimals: 0,
        of: |run| per_second(run, run.measured.messages),
    },
    Figure {
        key: "megabytes_per_second",
        title: "MB/s of payloads",
        decimals: 1,
        of: |run| Some(per_second(run, run.measured.payload_bytes)? / 1e6),
    },
    Figure {
        key: "requests_per_second",
        title: "requests/s",
        decimals: 0,
        of: |run| per_second(run, run.requests?),
    },
    Figure {
        key: "p50_ms",
        title: "consume p50, ms",
        decimals: 2,
        of: |run| latency(run, |latency| latency.p50),
    },
    Figure {
        key: "p90_ms",
        title: "consume p90, ms",
        decimals: 2,
        of: |run| latency(run, |latency| latency.p90),
    },
    Figure {
        key: "p99_ms",
        title: "consume p99, ms",
        decimals: 2,
        of: |run| latency(run, |latency| latency.p99),
    },
    Figure {
        key: "max_ms",
        title: "consume max, ms",
        decimals: 2,
        of: |run| latency(run, |latency| latency.max),
    },
    Figure {
        key: "cpu_us_per_message",
        title: "CPU µs/message",
        decimals: 2,
        of: |run| Some(run.measured.cpu_seconds? * 1e6 / run.measured.messages as f64),
    },
    Figure {
        key: "peak_memory_mb",
        title: "peak memory, MB",
        decimals: 1,
        of: |run| Some(run.measured.peak_memory_bytes? as f64 / 1e6),
    },
];

fn per_second(run: &Run, count: u64) -> Option<f64> {
    (run.measured.seconds > 0.0).then(|| count as f64 / run.measured.seconds)
}

fn latency(run: &Run, percentile: fn(Latency) -> f64) -> Option<f64> {
    run.measured.latency.map(percentile)
}

/// The values of one figure in several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Creates it from the values of all runs; `None` if one has none.
    pub(crate) fn of(values: Vec<Option<f64>>) -> Option<Self> {
        let mut values = values.into_iter().collect::<Option<Vec<f64>>>()?;
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }

    /// Returns the median, and the range.
    pub(crate) fn cells(spread: Option<Self>, decimals: usize) -> [String; 2] {
        let Some(Self { median, min, max }) = spread else { return ["-".to_owned(), "-".to_owned()] };
        [number(median, decimals), format!("{}…{}", number(min, decimals), number(max, decimals))]
    }

    pub(crate) fn as_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// Formats a number with grouped thousands.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    rest.map_or_else(|| whole.clone(), |rest| [&whole, ".", rest].concat())
}

impl Report {
    pub(crate) fn failed_batches(&self) -> u64 {
        let sides = [Some(&self.this), self.other.as_ref()].into_iter().flatten();
        sides.flat_map(|side| &side.runs).map(|run| run.measured.failed_batches).sum()
    }

    /// Divides this by the other, pair by pair.
    fn ratios(&self, figure: &Figure) -> Vec<Option<f64>> {
        let other = self.other.iter().flat_map(|side| &side.runs);
        let ratio = |(this, other): (&Run, &Run)| {
            let (this, other) = ((figure.of)(this)?, (figure.of)(other)?);
            (other != 0.0).then(|| this / other)
        };
        self.this.runs.iter().zip(other).map(ratio).collect()
    }

    pub(crate) fn as_table(&self) -> String {
        let setting = |key: &str| match &self.setting[key] {
            Value::String(text) => text.clone(),
            value => value.as_u64().map_or_else(|| value.to_string(), grouped),
        };
        let mut text = format!(
            "{} messages of {} bytes, {} a batch, mode {}, concurrency {}, runs of each: {}\n",
            setting("messages"),
            setting("size"),
            setting("batch"),
            setting("mode"),
            setting("concurrency"),
            self.this.runs.len()
        );
        for side in [Some(&self.this), self.other.as_ref()].into_iter().flatten() {
            text.extend([side.name, ": ", &side.plugin.to_string_lossy(), " ", &side.version, "\n"]);
        }
        let mut header = vec!["", "this", "min…max"];
        if self.other.is_some() {
            header.extend(["other", "min…max", "this / other", "min…max of pairs"]);
        }
        let row = |figure: &Figure| {
            let mut row = vec![figure.title.to_owned()];
            row.extend(Spread::cells(self.this.spread(figure), figure.decimals));
            if let Some(other) = &self.other {
                row.extend(Spread::cells(other.spread(figure), figure.decimals));
                row.extend(Spread::cells(Spread::of(self.ratios(figure)), 3));
            }
            row
        };
        text + &report::figures(&header, &FIGURES.iter().map(row).collect::<Vec<_>>())
    }

    pub(crate) fn as_json(&self) -> String {
        let mut value = self.setting.clone();
        value["this"] = side_as_json(&self.this);
        if let Some(other) = &self.other {
            value["other"] = side_as_json(other);
            let ratio = |figure: &Figure| {
                let pairs = self.ratios(figure);
                let mut spread = Spread::of(pairs.clone()).map_or(Value::Null, Spread::as_json);
                if let Some(spread) = spread.as_object_mut() {
                    spread.insert("pairs".to_owned(), json!(pairs));
                }
                (figure.key.to_owned(), spread)
            };
            value["ratios"] = FIGURES.iter().map(ratio).collect::<Map<_, _>>().into();
        }
        value.to_string()
    }
}

fn side_as_json(side: &Side) -> Value {
    let figures = FIGURES
        .iter()
        .map(|figure| (figure.key.to_owned(), side.spread(figure).map_or(Value::Null, Spread::as_json)));
    let run = |run: &Run| {
        let mut value = json!(run.measured);
        value["requests"] = json!(run.requests);
        value["body_bytes"] = json!(run.body_bytes);
        value
    };
    json!({
        "plugin": side.plugin,
        "plugin_version": side.version,
        "figures": figures.collect::<Map<_, _>>(),
        "runs": side.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: f64, requests: Option<u64>) -> Run {
        let latency = Some(Latency { p50: seconds, p90: seconds, p99: seconds, max: seconds });
        let measured =
            Measured { messages: 1000, payload_bytes: 5_000_000, seconds, latency, ..Measured::default() };
        Run { measured, requests, body_bytes: None }
    }

    fn report(requests: Option<u64>) -> Report {
        let side = |name, times: [f64; 3]| {
            let mut side = Side::new(name, Path::new("lib.so"));
            side.runs = times.map(|seconds| run(seconds, requests)).into();
            side
        };
        let setting = json!({ "messages": 1000, "size": 5000, "batch": 10, "mode": "raw", "concurrency": 1 });
        let other = Some(side("other", [2.0, 2.0, 1.0]));
        Report { this: side("this", [1.0, 0.5, 2.0]), other, setting }
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied().map(Some).collect());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(vec![Some(1.0), None]), None);
    }

    #[test]
    fn ratios_are_of_runs_beside_each_other() {
        let value: Value = serde_json::from_str(&report(Some(1000)).as_json()).unwrap();
        let ratio = &value["ratios"]["messages_per_second"];
        assert_eq!(*ratio, json!({ "median": 2.0, "min": 0.5, "max": 4.0, "pairs": [2.0, 4.0, 0.5] }));
        assert_eq!(value["ratios"]["p99_ms"]["median"], 0.5);
        assert_eq!(value["this"]["figures"]["requests_per_second"]["median"], 1000.0);
        // Nothing measured it.
        assert_eq!(value["ratios"]["cpu_us_per_message"], Value::Null);
    }

    #[test]
    fn the_table_has_a_row_for_each_figure() {
        let table = report(None).as_table();
        let row = |title: &str| {
            let line = table.lines().find(|line| line.contains(title)).unwrap();
            line.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).skip(1).collect::<Vec<_>>()
        };
        assert_eq!(row("messages/s"), ["1,000", "500…2,000", "500", "500…1,000", "2.000", "0.500…4.000"]);
        assert_eq!(row("MB/s"), ["5.0", "2.5…10.0", "2.5", "2.5…5.0", "2.000", "0.500…4.000"]);
        assert_eq!(row("requests/s"), ["-"; 6]);
        let alone = Report { other: None, ..report(None) }.as_table();
        assert!(!alone.contains("other"), "{alone}");
    }
}

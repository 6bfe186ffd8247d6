//! The result, as a table and as JSON.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    bench::report::Spread,
    terminal::report::{self, grouped},
};

/// A way from the topic to the endpoint, and its runs.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) plugin: PathBuf,
    /// The executable of the runtime; none for this program.
    pub(super) runtime: Option<PathBuf>,
    pub(super) runs: Vec<Run>,
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Run {
    pub(super) messages: u64,
    /// From the start of the process to the last message.
    pub(super) seconds: f64,
    /// From the start of the process to the first request.
    pub(super) first_seconds: f64,
    pub(super) requests: u64,
    pub(super) body_bytes: u64,
    /// The CPU time of the process, including its start.
    pub(super) cpu_seconds: Option<f64>,
}

/// The ways, each measured equally often.
#[derive(Debug)]
pub(crate) struct Report {
    pub(super) ways: Vec<Way>,
    pub(super) setting: Value,
}

struct Figure {
    key: &'static str,
    title: &'static str,
    decimals: usize,
    of: fn(&Run) -> Option<f64>,
}

const FIGURES: [Figure; 5] = [
    Figure {
        key: "messages_per_second",
        title: "messages/s",
        decimals: 0,
        of: |run| per_second(run.messages, run.seconds),
    },
    Figure {
        key: "messages_per_second_from_first",
        title: "once it reads",
        decimals: 0,
        of: |run| per_second(run.messages, run.seconds - run.first_seconds),
    },
    Figure { key: "first_seconds", title: "first after, s", decimals: 2, of: |run| Some(run.first_seconds) },
    Figure { key: "requests", title: "requests", decimals: 0, of: |run| Some(run.requests as f64) },
    Figure {
        key: "cpu_us_per_message",
        title: "CPU µs/message",
        decimals: 2,
        of: |run| Some(run.cpu_seconds? * 1e6 / run.messages as f64),
    },
];

fn per_second(messages: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| messages as f64 / seconds)
}

fn spread(way: &Way, figure: &Figure) -> Option<Spread> {
    Spread::of(way.runs.iter().map(figure.of).collect())
}

impl Report {
    /// The way that the others are compared with: the last one, a runtime.
    fn base(&self) -> Option<(&Way, &[Way])> {
        self.ways.split_last()
    }

    /// A way divided by another, run by run.
    fn ratios(way: &Way, base: &Way, figure: &Figure) -> Vec<Option<f64>> {
        let ratio = |(run, base): (&Run, &Run)| {
            let (run, base) = ((figure.of)(run)?, (figure.of)(base)?);
            (base > 0.0).then(|| run / base)
        };
        way.runs.iter().zip(&base.runs).map(ratio).collect()
    }

    pub(crate) fn as_table(&self) -> String {
        let setting = |key: &str| match &self.setting[key] {
            Value::String(text) => text.clone(),
            value => value.as_u64().map_or_else(|| value.to_string(), grouped),
        };
        let mut text = format!(
            "{} messages of {} bytes in {} partitions, batch_length {}, poll_interval {}, mode {}, concurrency {}, runs of each: {}\n",
            setting("messages"),
            setting("size"),
            setting("partitions"),
            setting("batch_length"),
            setting("poll_interval"),
            setting("mode"),
            setting("concurrency"),
            self.ways.first().map_or(0, |way| way.runs.len())
        );
        for way in &self.ways {
            text.extend([way.title, ": ", &way.plugin.to_string_lossy(), "\n"]);
        }
        let Some((base, _)) = self.base() else { return text };
        let [rate, rest @ ..] = &FIGURES;
        let versus = format!("/ {}", base.title);
        let mut header = vec!["", rate.title, "min…max", &versus, "min…max of pairs"];
        header.extend(rest.iter().map(|figure| figure.title));
        let row = |way: &Way| {
            let mut row = vec![way.title.to_owned()];
            row.extend(Spread::cells(spread(way, rate), rate.decimals));
            row.extend(Spread::cells(Spread::of(Self::ratios(way, base, rate)), 2));
            row.extend(rest.iter().map(|figure| {
                let [median, _] = Spread::cells(spread(way, figure), figure.decimals);
                median
            }));
            row
        };
        text + &report::figures(&header, &self.ways.iter().map(row).collect::<Vec<_>>())
    }

    pub(crate) fn as_json(&self) -> String {
        let mut value = self.setting.clone();
        for way in &self.ways {
            let figures = FIGURES.iter().map(|figure| {
                (figure.key.to_owned(), spread(way, figure).map_or(Value::Null, Spread::as_json))
            });
            value[way.name] = json!({
                "plugin": way.plugin,
                "figures": figures.collect::<Map<_, _>>(),
                "runs": way.runs,
            });
        }
        if let Some((base, others)) = self.base() {
            for way in others {
                let ratios = FIGURES.iter().map(|figure| {
                    let pairs = Self::ratios(way, base, figure);
                    let mut ratio = Spread::of(pairs.clone()).map_or(Value::Null, Spread::as_json);
                    if let Some(ratio) = ratio.as_object_mut() {
                        ratio.insert("pairs".to_owned(), json!(pairs));
                    }
                    (figure.key.to_owned(), ratio)
                });
                value["ratios"][format!("{}_to_{}", way.name, base.name)] =
                    ratios.collect::<Map<_, _>>().into();
            }
        }
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(name: &'static str, times: [f64; 3]) -> Way {
        let run = |seconds| Run { messages: 1000, seconds, first_seconds: 0.5, ..Run::default() };
        Way { name, title: name, plugin: "lib.so".into(), runtime: None, runs: times.map(run).into() }
    }

    #[test]
    fn each_is_compared_with_the_last() {
        let ways = vec![
            way("host", [1.0, 2.0, 1.0]),
            way("runtime", [2.0, 2.0, 2.0]),
            way("other", [4.0, 4.0, 1.0]),
        ];
        let report = Report { ways, setting: json!({ "messages": 1000 }) };
        let value: Value = serde_json::from_str(&report.as_json()).unwrap();
        assert_eq!(value["host"]["figures"]["messages_per_second"]["median"], 1000.0);
        assert_eq!(value["host"]["figures"]["messages_per_second_from_first"]["max"], 2000.0);
        let ratio = &value["ratios"]["host_to_other"]["messages_per_second"];
        assert_eq!(*ratio, json!({ "median": 2.0, "min": 1.0, "max": 4.0, "pairs": [4.0, 2.0, 1.0] }));
        assert_eq!(value["ratios"]["runtime_to_other"]["messages_per_second"]["median"], 2.0);
        assert_eq!(value["ratios"]["runtime_to_other"]["cpu_us_per_message"], Value::Null);
        let table = report.as_table();
        let row = table.lines().find(|line| line.contains("│ host")).unwrap();
        let cells: Vec<&str> = row.split(['│', '┆']).map(str::trim).skip(2).take(4).collect();
        assert_eq!(cells, ["1,000", "500…1,000", "2.00", "1.00…4.00"]);
    }
}

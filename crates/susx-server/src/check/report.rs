//! What the check found, as text and as JSON.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// What the check found.
#[derive(Debug)]
pub struct Report {
    directory: String,
    /// What the server sees, in this order. The names have underscores, as JSON likes them.
    facts: Vec<(&'static str, Value)>,
    tests: Vec<Test>,
    /// Why the model cannot be used; a sentence.
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Test {
    name: &'static str,
    verdict: Verdict,
    /// What was measured.
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Passed,
    Failed,
    /// Not judged: what is right depends on the model.
    Information,
}

impl Report {
    pub fn new(directory: &Path) -> Report {
        let directory = directory.display().to_string();
        Report { directory, facts: Vec::new(), tests: Vec::new(), error: None }
    }

    /// Adds what the server sees, or replaces the entry with this name. Null adds nothing.
    pub fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.facts.iter_mut().find(|(known, _)| *known == name) {
            _ if value.is_null() => {}
            Some((_, known)) => *known = value,
            None => self.facts.push((name, value)),
        }
    }

    /// Adds the result of a test.
    pub fn test(&mut self, name: &'static str, passed: bool, detail: String) {
        let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
        self.tests.push(Test { name, verdict, detail });
    }

    /// Adds a measurement that no test judges.
    pub fn information(&mut self, name: &'static str, detail: String) {
        self.tests.push(Test { name, verdict: Verdict::Information, detail });
    }

    /// Whether the model can be used and no test failed.
    pub fn is_ok(&self) -> bool {
        self.error.is_none() && self.tests.iter().all(|test| test.verdict != Verdict::Failed)
    }

    pub fn json(&self) -> String {
        let facts: Map<String, Value> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let value = json!({
            "directory": self.directory,
            "facts": facts,
            "tests": self.tests,
            "error": self.error,
            "ok": self.is_ok(),
        });
        format!("{value:#}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.directory)?;
        let width = self.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.facts {
            let values = match value {
                Value::Array(values) => values.iter().collect(),
                value => vec![value],
            };
            for (number, value) in values.into_iter().enumerate() {
                let label = if number == 0 { name.replace('_', " ") } else { String::new() };
                match value {
                    Value::String(text) => writeln!(f, "  {label:width$}  {text}")?,
                    value => writeln!(f, "  {label:width$}  {value}")?,
                }
            }
        }
        for Test { name, verdict, detail } in &self.tests {
            let verdict = match verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "FAILED",
                Verdict::Information => "(info)",
            };
            writeln!(f, "{verdict}  {name}: {detail}")?;
        }
        match &self.error {
            Some(error) => writeln!(f, "error: {error}"),
            None if self.is_ok() => writeln!(f, "The model works."),
            None => writeln!(f, "The model loads, but failed a test."),
        }
    }
}

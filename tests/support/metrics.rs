//! What a server says about itself in the Prometheus text format.

use anyhow::{Context, Result};

/// One reading of all series.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    series: Vec<Series>,
}

/// A name, its labels, and the value at the time of reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The metric's name.
    pub name: String,
    /// Its labels, in the order in which they were written.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// Reads the text format.
    ///
    /// # Errors
    /// Names the line that it is not.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series =
            lines.map(|line| series(line).with_context(|| format!("not a metric: {line}"))).collect::<Result<_>>()?;
        Ok(Self { series })
    }

    /// All series.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The sum over the series of this name that carry all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |series: &&Series| {
            series.name == name && labels.iter().all(|(key, value)| series.label(key) == Some(value))
        };
        self.series.iter().filter(fits).map(|series| series.value).sum()
    }

    /// How many requests the API server has answered so far: `apiserver_request_total` with these labels, for instance
    /// `[("verb", "APPLY"), ("resource", "configmaps")]`. Server-side apply is `APPLY`, other patches are `PATCH`; a watch counts when it ends.
    pub fn requests(&self, labels: &[(&str, &str)]) -> u64 {
        self.sum("apiserver_request_total", labels) as u64
    }
}

impl Series {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn series(line: &str) -> Option<Series> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series { name: name.to_owned(), labels, value })
}

/// Reads `a="b",c="d"}`, with `\\`, `\"` and `\n` in values; returns what follows.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (index, '"') => break index + 1,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((key.to_owned(), value));
        rest = &after[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_label() {
        let text = "# HELP x y\nx{verb=\"GET\",code=\"200\"} 3\nx{verb=\"GET\",code=\"404\"} 1e0\nx{verb=\"PUT\",path=\"a\\\"},b\"} 2 1700000\ny 1\n";
        let metrics = Metrics::parse(text).expect("these are metrics");
        assert_eq!(metrics.sum("x", &[("verb", "GET")]), 4.0);
        assert_eq!(metrics.sum("x", &[]), 6.0);
        assert_eq!(metrics.sum("x", &[("path", "a\"},b")]), 2.0);
        assert_eq!(metrics.sum("y", &[]), 1.0);
    }

    #[test]
    fn refuses_what_is_no_metric() {
        assert!(Metrics::parse("<html>").is_err());
    }
}

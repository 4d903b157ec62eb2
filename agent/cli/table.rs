//! A table whose last column is broken into lines rather than cut.

use super::look::{Look, Tone};
use super::text;

/// Between two columns.
const GAP: usize = 2;

/// No column but the last is wider.
const WIDEST: usize = 36;

/// A last column narrower than this goes beneath its row instead.
const NARROWEST: usize = 24;

/// A table in the making.
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<(Option<Tone>, Vec<String>)>,
}

impl Table {
    pub(super) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; `tone` colours its first cells.
    pub(super) fn row(&mut self, tone: Option<Tone>, cells: impl IntoIterator<Item = String>) {
        self.rows.push((tone, cells.into_iter().map(|cell| text::clean(&cell)).collect()));
    }

    /// The table, each line ended.
    pub(super) fn render(&self, look: &Look) -> String {
        let last = self.header.len() - 1;
        let widths: Vec<usize> = (0..last)
            .map(|column| {
                let cells = self.rows.iter().map(|(_, cells)| text::width(&cells[column]));
                cells.chain([self.header[column].len()]).max().unwrap_or(0).min(WIDEST)
            })
            .collect();
        let indent: usize = widths.iter().map(|width| width + GAP).sum();
        let mut out = String::new();
        let head: Vec<_> = self.header.iter().map(|title| (*title).to_owned()).collect();
        out.push_str(look.paint(Tone::Dim, line(&head, &widths).trim_end()).as_str());
        out.push('\n');
        for (tone, cells) in &self.rows {
            let fixed = line(&cells[..last], &widths);
            let fixed = tone.map_or(fixed.clone(), |tone| look.paint(tone, &fixed));
            let (below, indent) = match look.width.checked_sub(indent) {
                Some(room) if room >= NARROWEST => (false, indent),
                _ => (true, 4),
            };
            let lines = text::wrap(&cells[last], look.width.saturating_sub(indent));
            out.push_str(&fixed);
            if below {
                out.truncate(out.trim_end().len());
                out.push('\n');
            }
            for (at, line) in lines.iter().enumerate() {
                if at > 0 || below {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str(line);
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
            }
        }
        out
    }
}

/// The cells side by side; those beyond the widths as they are.
fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        match widths.get(at) {
            Some(width) => line.push_str(&text::pad(&text::truncate(cell, *width), width + GAP)),
            None => line.push_str(cell),
        }
    }
    line
}

//! What an answer is shown on.

use std::io::IsTerminal as _;

use jiff::Timestamp;

/// The terminal's width, whether it has colours, and what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether to write ANSI colours.
    pub color: bool,
    /// Columns.
    pub width: usize,
    /// Now.
    pub now: Timestamp,
}

/// Where nothing else is known, and as wide as running text gets.
const WIDTH: usize = 80;

/// The least that a layout can do with.
const LEAST: usize = 40;

/// The meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Warn,
    Dim,
    Strong,
}

impl Look {
    /// As stdout is. `NO_COLOR` (no-color.org) and `TERM=dumb` are heeded.
    pub fn of_stdout(now: Timestamp) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let width = if terminal { width } else { None }.or_else(columns).unwrap_or(WIDTH);
        Self { color: terminal && !no_color && !dumb, width: width.max(LEAST), now }
    }

    /// `text` in the colour of its meaning.
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

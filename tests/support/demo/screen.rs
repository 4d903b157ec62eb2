//! What the demo writes: a line a step, evidence below it, and a table at the end. Fits 80 columns.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// No line is longer, however wide the terminal is.
const WIDEST: usize = 80;
/// Evidence stands this far in.
const INDENT: usize = 7;

/// Where the demo writes.
pub(crate) struct Screen {
    terminal: bool,
    color: bool,
    width: usize,
}

/// How a text is shown on a terminal that has colours.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Bad,
    Dim,
    Strong,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let width = terminal_size::terminal_size().map_or(WIDEST, |(width, _)| usize::from(width.0));
        Self { terminal, color: terminal && !dumb && !set("NO_COLOR"), width: width.clamp(40, WIDEST) }
    }

    /// Plain words. A line that is indented is a command, and stays whole.
    pub(crate) fn say(&self, text: &str) {
        let lines = text.lines().flat_map(|line| match line.starts_with(' ') {
            true => vec![line.to_owned()],
            false => wrap(line, self.width),
        });
        for line in lines {
            self.line(&line);
        }
    }

    /// Words between the steps.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&format!("\n{}", self.paint(Tone::Strong, text)));
    }

    /// Shows that a step goes on; on a terminal alone, and overwritten by what follows.
    pub(crate) fn pending(&self, number: usize, name: &str, so_far: Duration) {
        if self.terminal {
            let line = self.row('…', number, name, so_far);
            print!("\r{}", self.paint(Tone::Dim, &line));
            self.flush();
        }
    }

    /// A step that has ended, and what was seen.
    pub(crate) fn done(&self, number: usize, name: &str, held: bool, took: Duration, evidence: &str) {
        if self.terminal {
            print!("\r\x1b[K");
        }
        let (tone, mark) = if held { (Tone::Good, '✓') } else { (Tone::Bad, '✗') };
        self.line(&self.paint(tone, &self.row(mark, number, name, took)));
        let tone = if held { Tone::Dim } else { Tone::Bad };
        for line in evidence.lines().flat_map(|line| wrap(line, self.width - INDENT)) {
            self.line(&format!("{:INDENT$}{}", "", self.paint(tone, &line)));
        }
    }

    /// Lines of a log, as they are.
    pub(crate) fn quote(&self, title: &str, text: &str) {
        self.line(&format!("{:INDENT$}{title}", ""));
        for line in text.lines() {
            self.line(&format!("{:INDENT$}| {line}", ""));
        }
    }

    /// The table of all steps.
    pub(crate) fn table(&self, rows: &[(String, bool, Duration)]) {
        let room = self.width - 20;
        self.line(&format!(
            "\n{}",
            self.paint(Tone::Strong, &format!("{:room$}  {:>7}  {:>8}", "STEP", "HELD", "SECONDS"))
        ));
        for (name, held, took) in rows {
            let (tone, word) = if *held { (Tone::Good, "yes") } else { (Tone::Bad, "NO") };
            let seconds = format!("{:.1}", took.as_secs_f64());
            let word = self.paint(tone, &format!("{word:>7}"));
            self.line(&format!("{name:room$}  {word}  {seconds:>8}"));
        }
    }

    fn row(&self, mark: char, number: usize, name: &str, took: Duration) -> String {
        let seconds = format!("{:.1} s", took.as_secs_f64());
        let room = self.width.saturating_sub(INDENT + seconds.len() + 1);
        format!("{mark} {number:>3}  {name:room$} {seconds}")
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.color => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    fn line(&self, line: &str) {
        println!("{line}");
        self.flush();
    }

    fn flush(&self) {
        // A reader that has gone away is no reason to stop before the cluster is tidied up.
        let _ = std::io::stdout().flush();
    }
}

/// Breaks a text at spaces; a word that is longer stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_the_terminal() {
        let screen = Screen { terminal: false, color: false, width: 80 };
        let row = screen.row('✓', 10, "the reports are delivered, in order", Duration::from_millis(123_456));
        assert_eq!(row.chars().count(), 80, "{row}");
        assert!(wrap(&"word and words ".repeat(40), 73).iter().all(|line| line.chars().count() <= 73));
    }
}

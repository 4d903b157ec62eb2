//! Where answers and words go. Nothing else in the crate writes to the terminal.

use std::error::Error as _;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::look::{Look, Tone};
use super::{CliError, Format, text};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// It differs, or is not ready.
    Differs,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Differs => 3,
        })
    }
}

/// Answers on one side, words on the other.
pub struct Out {
    answers: Box<dyn Write>,
    words: Box<dyn Write>,
    /// Whether words are read on a terminal; in a log they stay on their line.
    words_on_terminal: bool,
    /// What answers are shown on.
    pub look: Look,
}

impl Out {
    /// Stdout and stderr.
    pub fn to_terminal(look: Look) -> Self {
        let words_on_terminal = io::stderr().is_terminal();
        Self { answers: Box::new(io::stdout()), words: Box::new(io::stderr()), words_on_terminal, look }
    }

    /// Writes an answer: as a document, or as `shown` makes it for people.
    pub(super) fn answer<T: Serialize>(
        &mut self,
        format: Format,
        answer: &T,
        shown: impl FnOnce(&T, &Look) -> String,
    ) -> Result<(), CliError> {
        let text = match format {
            Format::Table => shown(answer, &self.look),
            Format::Json => serde_json::to_string_pretty(answer).map(|json| json + "\n").map_err(CliError::Json)?,
            Format::Yaml => yaml(answer)?,
        };
        self.text(&text)
    }

    /// Writes an answer that is text.
    pub(super) fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.answers.write_all(text.as_bytes()).and_then(|()| self.answers.flush()).map_err(CliError::Output)
    }

    /// What time it is.
    pub(super) fn now(&self) -> jiff::Timestamp {
        self.look.now
    }

    /// Says something about the answer.
    pub(super) fn say(&mut self, words: &str) -> Result<(), CliError> {
        writeln!(self.words, "{words}").map_err(CliError::Output)
    }

    /// Says what went wrong, with its causes and what to do.
    pub fn failed(&mut self, error: &CliError) -> Exit {
        // Whoever reads has read enough: `wickie events | head`.
        if matches!(error, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return Exit::Done;
        }
        let title = if self.words_on_terminal { self.look.paint(Tone::Bad, "error") } else { "error".to_owned() };
        let mut said = self.paragraph(&title, &error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            said.push_str(&self.paragraph("because", &error.to_string()));
            cause = error.source();
        }
        // Where stderr is closed there is nobody to tell.
        let _ = self.words.write_all(said.as_bytes());
        error.exit()
    }

    fn paragraph(&self, title: &str, words: &str) -> String {
        let width = if self.words_on_terminal { self.look.width - "because: ".len() } else { usize::MAX };
        format!("{title}: {}\n", text::wrap(words, width).join("\n  "))
    }
}

pub(super) fn yaml<T: Serialize>(answer: &T) -> Result<String, CliError> {
    // By way of JSON, so that both show the same fields.
    let value = serde_json::to_value(answer).map_err(CliError::Json)?;
    let text = serde_saphyr::to_string(&value).map_err(|error| CliError::Yaml(error.to_string()))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

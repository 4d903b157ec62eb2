//! Figures and goals.

use std::process::ExitCode;

/// Collects goals that were missed.
#[derive(Default)]
pub(crate) struct Judge {
    missed: Vec<String>,
}

impl Judge {
    /// A figure that is to be at most `goal`.
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, goal: f64) {
        if figure > goal {
            self.missed.push(format!("{what}: {figure}, and the goal is {goal}"));
        }
    }

    pub(crate) fn verdict(self) -> ExitCode {
        for missed in &self.missed {
            println!("missed: {missed}");
        }
        if self.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

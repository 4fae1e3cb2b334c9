//! Where words and data go: stderr for people, stdout for programs.
//!
//! ```text
//!  say / note / warn ──▶ stderr   coloured where it is a terminal and NO_COLOR is not set
//!  data              ──▶ stdout   never coloured; a closed pipe (`| head`) is no error for the user
//! ```
#![allow(clippy::print_stderr, reason = "this module is where the words of the command line are printed")]

use std::io::{ErrorKind as IoKind, IsTerminal, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::error::{Error, ErrorKind, Result};

/// The message of the error that a closed stdout gives; `main` ends quietly on it.
pub const OUTPUT_CLOSED: &str = "the output was closed";

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Colours and moving lines on stderr.
    pub live: bool,
    /// Stdout is read by a person.
    pub stdout_is_terminal: bool,
    /// Stdin is a person at a keyboard.
    pub stdin_is_terminal: bool,
}

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Headlines and the figures that matter.
    Strong,
    /// What may be skipped.
    Faint,
    /// All is well.
    Good,
    /// Needs a look.
    Bad,
}

impl Terminal {
    /// The process's own terminal; `color` is what the settings allow.
    pub fn new(color: bool) -> Self {
        Self {
            live: color && std::io::stderr().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
        }
    }

    /// `text` as it should look on stderr.
    pub fn paint(&self, look: Look, text: &str) -> String {
        if !self.live {
            return text.to_string();
        }
        let code = match look {
            Look::Strong => "1",
            Look::Faint => "2",
            Look::Good => "32",
            Look::Bad => "33",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A line for people.
    pub fn say(&self, text: &str) {
        // A closed stderr must not stop the work.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// A question for people; the line that they answer.
    ///
    /// # Errors
    /// `Storage` when nothing can be read from stdin.
    pub fn ask(&self, question: &str) -> Result<String> {
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{question}").and_then(|()| err.flush());
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(answer)
    }

    /// A warning: one line that starts with the word.
    pub fn warn(&self, text: &str) {
        self.say(&format!("{} {text}", self.paint(Look::Bad, "warning:")));
    }

    /// A piece of data, with a line end.
    ///
    /// # Errors
    /// `Cancelled` when the reader has gone, `Storage` when stdout is a file on a full disk.
    pub fn data(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(closed)
    }

    /// A table for people, without a frame: faint header, numbers to the right.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if header.iter().any(|name| !name.is_empty()) {
            table.set_header(header.iter().map(|name| Cell::new(self.paint(Look::Faint, name))));
        }
        table.add_rows(rows);
        for column in right {
            if let Some(column) = table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| format!("  {}", line.trim_end())).collect::<Vec<_>>().join("\n")
    }
}

/// An error from writing to stdout.
pub fn closed(error: std::io::Error) -> Error {
    match error.kind() {
        IoKind::BrokenPipe => Error::new(ErrorKind::Cancelled, OUTPUT_CLOSED),
        _ => Error::from(error).context("writing the output"),
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `1,234 rows`.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A duration as a person says it: `12 ms`, `3.4 s`, `5 min`, `2 h`, `3 days`.
pub fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms as f64 / 1000.0;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{seconds:.1} s"),
        60_000..5_400_000 => format!("{:.0} min", seconds / 60.0),
        5_400_000..172_800_000 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal = Terminal { live: false, stdout_is_terminal: false, stdin_is_terminal: false };

    #[test]
    fn numbers_are_grouped() {
        let all = [0, 12, 999, 1_000, 1_234_567, 100_000].map(grouped);
        assert_eq!(all, ["0", "12", "999", "1,000", "1,234,567", "100,000"]);
    }

    #[test]
    fn durations_are_readable() {
        let all = [-5, 12, 3_420, 300_000, 7_200_000, 259_200_000].map(duration);
        assert_eq!(all, ["0 ms", "12 ms", "3.4 s", "5 min", "2 h", "3 days"]);
    }

    #[test]
    fn colours_only_on_a_terminal() {
        assert_eq!(PLAIN.paint(Look::Good, "ok"), "ok");
        assert_eq!(Terminal { live: true, ..PLAIN }.paint(Look::Good, "ok"), "\u{1b}[32mok\u{1b}[0m");
    }

    #[test]
    fn a_table_has_no_frame_and_no_trailing_blanks() {
        let text =
            PLAIN.table(&["name", "rows"], vec![vec!["a".into(), "10".into()], vec!["bc".into(), "2".into()]], &[1]);
        assert_eq!(text, "   name  rows\n   a       10\n   bc       2");
    }
}

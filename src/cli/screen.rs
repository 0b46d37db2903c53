//! Where output goes: what was asked for, and what the terminal can do.

use std::env;
use std::io::IsTerminal;

use super::arguments::{Display, Output};
use crate::report::{Mode, Page};

/// Width of a page that is no terminal.
const WIDTH: u16 = 110;

/// How a command shows its progress and its result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) mode: Mode,
    pub(super) output: Output,
    pub(super) is_quiet: bool,
    /// Whether everything is listed.
    pub(super) is_verbose: bool,
    /// Where results are printed.
    pub(super) stdout: Page,
    /// Where errors are printed.
    pub(super) stderr: Page,
}

impl Screen {
    pub(super) fn new(display: &Display) -> Self {
        let has_notes = display.verbose > 0;
        let term = env::var("TERM").ok();
        let is_able = |is_terminal| is_able(is_terminal, term.as_deref());
        let mode = match (display.output, display.quiet, is_able(std::io::stderr().is_terminal())) {
            (Output::Json, _, _) => Mode::Json,
            (Output::Text, true, _) => Mode::Quiet,
            (Output::Text, false, true) => Mode::Bars { has_notes },
            (Output::Text, false, false) => Mode::Plain { has_notes },
        };
        Screen {
            mode,
            output: display.output,
            is_quiet: display.quiet,
            is_verbose: has_notes,
            stdout: page(std::io::stdout().is_terminal(), is_able),
            stderr: page(std::io::stderr().is_terminal(), is_able),
        }
    }
}

/// Whether it is a terminal that moves its cursor and shows colours: terminfo calls one that does not `dumb`, and one
/// without a name promises nothing.
fn is_able(is_terminal: bool, term: Option<&str>) -> bool {
    is_terminal && !matches!(term, None | Some("" | "dumb"))
}

fn page(is_terminal: bool, is_able: impl Fn(bool) -> bool) -> Page {
    if !is_terminal {
        return Page { width: WIDTH, is_coloured: false };
    }
    let columns = console_width().unwrap_or(WIDTH);
    let is_coloured = is_able(is_terminal) && env::var_os("NO_COLOR").is_none();
    Page { width: columns.clamp(40, 160), is_coloured }
}

/// The terminal's width.
fn console_width() -> Option<u16> {
    console::Term::stderr().size_checked().map(|(_, columns)| columns)
}

#[cfg(test)]
mod tests {
    use super::is_able;

    #[test]
    fn only_a_terminal_that_can_move_its_cursor_gets_bars() {
        assert!(is_able(true, Some("xterm-256color")));
        for term in [None, Some(""), Some("dumb")] {
            assert!(!is_able(true, term), "{term:?}");
        }
        assert!(!is_able(false, Some("xterm-256color")));
    }
}

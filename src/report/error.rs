//! An error, for a person: what failed, why, what to do next, and what the exit code means.

use crate::error::{Error, Exit};
use crate::report::text::{Colour, Page};

/// The error with its causes, its hint and its exit code.
pub fn error(error: &Error, page: Page) -> String {
    let mut out = String::new();
    let mut said: Vec<String> = Vec::new();
    for message in error.chain() {
        // Some libraries repeat their cause in their own message.
        if said.iter().any(|earlier| earlier.contains(&message)) {
            continue;
        }
        page.wrap(&mut out, if said.is_empty() { "error: " } else { "  because: " }, &message);
        said.push(message);
    }
    if let Some(hint) = error.fault.hint() {
        page.wrap(&mut out, "  next: ", &hint);
    }
    page.wrap(&mut out, &format!("  exit code {}: ", error.exit.code()), meaning(error.exit));
    out.replacen("error", &page.paint("error", Colour::Red), 1)
}

/// What an exit code means.
pub fn meaning(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "done and proven",
        Exit::Internal => "internal error, a defect of pgmove: please report it",
        Exit::Usage => "usage or settings",
        Exit::Refused => "refused by the check; nothing was written",
        Exit::Different => "verification found a difference",
        Exit::Resumable => "stopped; go on with --resume",
        Exit::StartOver => "failed, must start over",
        Exit::NotAllCompared => "equal as far as compared, but something was not compared",
        Exit::Interrupted => "interrupted at a safe point; go on with --resume",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn an_error_for_a_person() {
        insta::assert_snapshot!(error(&sample::error(), sample::PAGE));
    }
}

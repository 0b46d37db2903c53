//! An error, for a person: what failed, why, what to do next, and what the exit code means.

use crate::error::{Error, Exit};
use crate::report::text::{Colour, Page};

/// How a command that was not finished is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// By `--resume`.
    Resume,
    /// From its beginning, in these words.
    Anew(&'static str),
}

/// The error with its causes, its hint and its exit code.
pub fn error(error: &Error, again: Again, page: Page) -> String {
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
    page.wrap(&mut out, &format!("  exit code {}: ", error.exit.code()), &meaning(error.exit, again));
    out.replacen("error", &page.paint("error", Colour::Red), 1)
}

/// What an exit code means.
pub(super) fn meaning(exit: Exit, again: Again) -> String {
    let meaning = match (exit, again) {
        (Exit::Done, _) => "done and proven",
        (Exit::Internal, _) => "internal error",
        (Exit::Usage, _) => "usage or settings",
        (Exit::Refused, _) => "refused by the check; nothing was written",
        (Exit::Different, _) => "verification found a difference",
        (Exit::Resumable, Again::Resume) => "stopped; go on with --resume",
        (Exit::Resumable, Again::Anew(words)) => return format!("not finished; {words}"),
        (Exit::RolledBack, _) => {
            "failed, and rolled back: the source can be written again; go on with --resume"
        }
        (Exit::StartOver, _) => "failed, must start over",
        (Exit::NotAllCompared, _) => "equal as far as compared, but something was not compared",
        (Exit::Interrupted, Again::Resume) => "interrupted at a safe point; go on with --resume",
        (Exit::Interrupted, Again::Anew(words)) => return format!("interrupted; {words}"),
    };
    meaning.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn an_error_for_a_person() {
        insta::assert_snapshot!(error(&sample::error(), Again::Resume, sample::PAGE));
    }

    #[test]
    fn what_is_not_finished_is_taken_up_again_by_the_commands_own_means() {
        assert_eq!(
            meaning(Exit::Interrupted, Again::Resume),
            "interrupted at a safe point; go on with --resume"
        );
        let anew = Again::Anew("compare again");
        for exit in [Exit::Resumable, Exit::Interrupted] {
            let line = meaning(exit, anew);
            assert!(line.contains("compare again") && !line.contains("--resume"), "{line}");
        }
    }
}

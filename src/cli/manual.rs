//! Completions and man pages, made of the command line's definitions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use clap_mangen::Man;

use super::layers::described;
use crate::error::{Class, Fault};

/// The script that completes `pgmove` in a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut described(), "pgmove", &mut script);
    text(script)
}

/// pgmove(1).
pub(super) fn page() -> String {
    let mut page = Vec::new();
    // The pages of all commands have none for `pgmove help` either.
    Man::new(described().disable_help_subcommand(true))
        .render(&mut page)
        .expect("memory takes what is written");
    text(page)
}

/// Writes a page for each command.
pub(super) fn write(directory: &Path) -> Result<(), ManualError> {
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(described(), directory));
    written.map_err(|cause| ManualError { directory: directory.to_owned(), cause })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("help is UTF-8")
}

/// The pages cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write manual pages into {}", directory.display())]
pub(super) struct ManualError {
    directory: PathBuf,
    #[source]
    cause: io::Error,
}

impl Fault for ManualError {
    fn class(&self) -> Class {
        Class::Environment
    }

    fn hint(&self) -> Option<String> {
        Some("name a directory that you may write to".into())
    }
}

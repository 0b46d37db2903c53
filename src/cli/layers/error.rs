//! What can be wrong with a setting. No error holds a connection string, which may hold a password.

use std::io;
use std::path::PathBuf;

use crate::error::{Class, Fault};
use crate::kubernetes::ObjectRefError;
use crate::pg::ConnInfoError;

/// A settings file or an environment variable that cannot be followed; `at` is where, as [`crate::settings::Origin`]
/// displays it.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SettingsError {
    #[error("could not read the settings file {}", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{at}: the settings file is no TOML: {message}")]
    Syntax { at: String, message: String },
    #[error("{at}: unknown key {key}{}", in_section(section))]
    Unknown { at: String, key: String, section: String, similar: Option<String> },
    #[error("{at}: pgmove {section} has no option {key}")]
    NotOfCommand { at: String, key: String, section: String, owners: Vec<String> },
    #[error("{at}: {key} must be {expected}, not {found}")]
    Type { at: String, key: String, expected: &'static str, found: &'static str },
    #[error("{at}: {key} cannot be \"{value}\": {reason}")]
    Value { at: String, key: String, value: String, reason: String },
    #[error("{at}: {key} is not a connection string that pgmove understands")]
    ConnectionString {
        at: String,
        key: String,
        #[source]
        cause: ConnInfoError,
    },
    #[error("{at}: {key} is no object that a database is looked for behind")]
    Object {
        at: String,
        key: String,
        #[source]
        cause: ObjectRefError,
    },
    #[error("{at}: {key} cannot be set together with {other} ({other_at})")]
    Conflict { at: String, key: String, other: String, other_at: String },
}

fn in_section(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in [{section}]") }
}

impl Fault for SettingsError {
    fn class(&self) -> Class {
        match self {
            SettingsError::Unreadable { .. } => Class::Environment,
            _ => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            SettingsError::Unreadable { .. } => "check the path and its permissions; --config FILE names another file".into(),
            SettingsError::Syntax { .. } => "write key = value, with strings in double quotes: https://toml.io".into(),
            SettingsError::Unknown { similar: Some(similar), .. } => format!("did you mean {similar}?"),
            SettingsError::Unknown { .. } => {
                "keys are the long options without their dashes; sections are commands, as [run]: see pgmove config show"
                    .into()
            }
            SettingsError::NotOfCommand { key, owners, .. } => {
                format!("{key} is an option of {}: move it there, or above all sections", owners.join(", "))
            }
            SettingsError::ConnectionString { cause, .. } => return cause.hint(),
            SettingsError::Object { cause, .. } => return cause.hint(),
            SettingsError::Conflict { .. } => "remove one of them".into(),
            SettingsError::Type { .. } | SettingsError::Value { .. } => return None,
        })
    }
}

//! `pgmove config show`: what the layers come to for each command when no option is typed.

use std::ffi::{OsStr, OsString};

use clap::Arg;
use serde_json::Value;

use super::definition::{self, Kind, Leaf};
use super::{Layers, SettingsError, in_force, lenient, with_their_objects};
use crate::cli::connections::{Endpoint, PASSWORDS};
use crate::settings::{Held, Origin, Overview, PasswordVariable};

impl Layers {
    /// Every option of every command with its value, in the order of `--help`.
    pub(in crate::cli) fn overview(&self) -> Result<Overview, SettingsError> {
        let root = lenient();
        let mut options: Vec<Held> = Vec::new();
        for leaf in Leaf::all(&root) {
            let (settings, _) = with_their_objects(&|_| None, self.of(&root, &leaf)?);
            let (settings, _) = in_force(&leaf, &[], settings)?;
            for option in leaf.options() {
                let setting = settings.iter().find(|setting| setting.option.get_id() == option.get_id());
                let (value, from) = match setting {
                    Some(setting) => (all_shown(option, &setting.values), setting.origin.clone()),
                    None => (
                        shown(option, option.get_default_values().first().map(AsRef::as_ref)),
                        Origin::Default,
                    ),
                };
                add(&mut options, definition::key(option), value, from, leaf.path().join(" "));
            }
        }
        let is_set = |variable| PasswordVariable {
            variable,
            is_set: self.environment.contains_key(OsStr::new(variable)),
        };
        Ok(Overview {
            file: self.file.as_ref().map(|file| file.path.clone()),
            options,
            passwords: PASSWORDS.map(is_set).into(),
        })
    }
}

/// Adds a command to what holds for another one too, or what holds for it alone beside the option's other values.
fn add(options: &mut Vec<Held>, option: &str, value: Value, from: Origin, command: String) {
    let same =
        options.iter_mut().find(|held| held.option == option && held.value == value && held.from == from);
    if let Some(held) = same {
        held.commands.push(command);
        return;
    }
    let after = options.iter().rposition(|held| held.option == option).map_or(options.len(), |last| last + 1);
    options.insert(after, Held { option: option.to_owned(), value, from, commands: vec![command] });
}

/// One value, or a list of several.
fn all_shown(option: &Arg, values: &[OsString]) -> Value {
    match values {
        [value] => shown(option, Some(value)),
        values => values.iter().map(|value| shown(option, Some(value))).collect(),
    }
}

/// The value in its own type, without its password.
fn shown(option: &Arg, value: Option<&OsStr>) -> Value {
    let text = value.map(OsStr::to_string_lossy);
    match (Kind::of(option), text) {
        (Kind::Boolean, text) => (text.as_deref() == Some("true")).into(),
        (_, None) => Value::Null,
        (Kind::Integer, Some(text)) => text.parse::<u64>().map_or(Value::Null, Into::into),
        (Kind::String, Some(text)) if definition::may_hold_password(option) => without_password(&text).into(),
        (Kind::String, Some(text)) => text.into_owned().into(),
    }
}

/// An endpoint as it is, or what it leads to if it holds a password.
fn without_password(text: &str) -> String {
    match Endpoint::parse(text) {
        Ok(Endpoint::ConnectionString(conninfo)) if conninfo.password().is_some() => {
            format!("{conninfo} (with a password)")
        }
        // It was read before; this only repeats that it is good.
        Ok(_) => text.to_owned(),
        Err(error) => error.to_string(),
    }
}

//! The layers of settings: `pgmove.toml`, over it the environment, over both what is typed.
//!
//! clap's definitions are the only list of options. By rule, `--index-memory` is the variable `PGMOVE_INDEX_MEMORY` and
//! the key `index-memory`. What file and environment say becomes the default of the option in these definitions, so that
//! clap reads values of every layer with the same parser, and what is typed wins.
//!
//! Two options that exclude each other are an error within one layer; between layers the stronger one silences the
//! weaker, so that `fence = true` in a file does not forbid `--dry-run`.

mod definition;
mod error;
mod file;
mod show;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::arguments::{Arguments, Output, Settings};
use super::connections::{Endpoint, EndpointError};
use super::endpoints::endpoints_of;
use crate::settings::Origin;
use definition::{Kind, Leaf};
pub(super) use error::SettingsError;
use file::SettingsFile;

/// The variables of the environment, by name.
pub(super) type Environment = HashMap<OsString, OsString>;

/// The command line with what file and environment add to it.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) arguments: Arguments,
    pub(super) layers: Layers,
    /// What an operator may want to know, at `-v`.
    pub(super) notes: Vec<String>,
}

/// Why there is no command to carry out.
#[derive(Debug)]
pub(super) enum Unsettled {
    /// Help that was asked for, or a command line that clap refuses.
    CommandLine(clap::Error),
    /// A setting beside the command line, and how the error is to be shown.
    Setting(SettingsError, Output),
}

/// Reads the command line, the environment and the settings file.
pub(super) fn settle(typed: &[OsString], environment: Environment) -> Result<Settled, Unsettled> {
    let (matches, layers, notes) = matches(typed, environment)?;
    let arguments = Arguments::from_arg_matches(&matches).map_err(Unsettled::CommandLine)?;
    Ok(Settled { arguments, layers, notes })
}

fn matches(
    typed: &[OsString],
    environment: Environment,
) -> Result<(ArgMatches, Layers, Vec<String>), Unsettled> {
    let root = lenient();
    // What is typed must be good by itself, and help is given however broken a settings file is.
    let matches = root.clone().try_get_matches_from(typed).map_err(|error| {
        Unsettled::CommandLine(described().try_get_matches_from(typed).err().unwrap_or(error))
    })?;
    let output = match matches.value_source("output") {
        Some(ValueSource::CommandLine) => matches.get_one("output").copied(),
        _ => environment
            .get(OsStr::new("PGMOVE_OUTPUT"))
            .filter(|output| *output == "json")
            .map(|_| Output::Json),
    };
    let fail = |error| Unsettled::Setting(error, output.unwrap_or(Output::Text));
    let settings = Settings::from_arg_matches(&matches).map_err(Unsettled::CommandLine)?;
    let file = SettingsFile::find(settings.config.as_deref(), &root).map_err(fail)?;
    let layers = Layers { file, environment };

    let leaf = leaf_of(&root, &matches);
    let at_leaf = leaf_matches(&matches);
    let is_typed =
        |option: &&Arg| at_leaf.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
    let typed_options: Vec<&Arg> = leaf.options().filter(is_typed).collect();
    let found = layers.of(&root, &leaf).map_err(fail)?;
    let typed_endpoint = |name: &str| {
        let option = typed_options.iter().find(|option| definition::key(option) == name)?;
        at_leaf.get_one::<String>(option.get_id().as_str()).cloned()
    };
    let (found, of_objects) = with_their_objects(&typed_endpoint, found);
    let (found, mut notes) = in_force(&leaf, &typed_options, found).map_err(fail)?;
    notes.extend(of_objects);
    if let Some(file) = &layers.file {
        notes.insert(0, format!("settings are read from {}", file.path.display()));
    }
    let matches = with_defaults(Arguments::command(), &leaf.path(), &found).try_get_matches_from(typed);
    Ok((matches.map_err(Unsettled::CommandLine)?, layers, notes))
}

/// The definitions as `--help`, completions and man pages show them: with the variable of every option.
///
/// Nothing is parsed by them, since clap takes a variable for as strong as what is typed when options exclude each other.
pub(super) fn described() -> Command {
    definition::map_all(Arguments::command(), &mut |option| {
        if !definition::is_setting(&option) {
            return option;
        }
        let variable = definition::variable(&option);
        option.env(variable)
    })
}

/// The definitions without what another layer may bring: nothing is required.
fn lenient() -> Command {
    definition::map_all(Arguments::command(), &mut |option| option.required(false))
}

/// The definitions with settings as the defaults of their options.
fn with_defaults(command: Command, path: &[&str], settings: &[Setting<'_>]) -> Command {
    definition::map_options(command, path, &mut |option| match settings
        .iter()
        .find(|setting| setting.option.get_id() == option.get_id())
    {
        Some(setting) => option.required(false).default_values(setting.values.clone()),
        None => option,
    })
}

/// The command that was typed.
fn leaf_of<'a>(root: &'a Command, matches: &ArgMatches) -> Leaf<'a> {
    let mut path = Vec::new();
    let mut matches = matches;
    while let Some((name, below)) = matches.subcommand() {
        path.push(name);
        matches = below;
    }
    Leaf::all(root).into_iter().find(|leaf| leaf.path() == path).expect("clap asks for a whole command")
}

fn leaf_matches(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, below)| leaf_matches(below))
}

/// What file and environment say of one option of one command.
#[derive(Debug, Clone)]
struct Setting<'a> {
    option: &'a Arg,
    /// As it would be typed; several of an option that can be given several times.
    values: Vec<OsString>,
    origin: Origin,
}

impl Setting<'_> {
    /// Whether it asks for something: `fence = false` excludes nothing.
    fn is_on(&self) -> bool {
        match Kind::of(self.option) {
            Kind::Boolean => self.values.iter().any(|value| value == "true"),
            _ => self.values.iter().any(|value| value != "0"),
        }
    }
}

/// The layers below the command line.
#[derive(Debug)]
pub(super) struct Layers {
    file: Option<SettingsFile>,
    environment: Environment,
}

impl Layers {
    /// What they say for a command: of each option the strongest value.
    fn of<'a>(&self, root: &Command, leaf: &Leaf<'a>) -> Result<Vec<Setting<'a>>, SettingsError> {
        let mut found = Vec::new();
        for option in leaf.options() {
            let variable = definition::variable(option);
            if let Some(value) = self.environment.get(OsStr::new(&variable)) {
                let origin = Origin::Environment { variable };
                check(root, leaf, option, value, &origin)?;
                found.push(Setting { option, values: vec![value.clone()], origin });
            } else if let Some(entry) = self.entry(leaf, definition::key(option)) {
                found.push(Setting {
                    option,
                    values: entry.values.iter().map(Into::into).collect(),
                    origin: entry.origin.clone(),
                });
            }
        }
        Ok(found)
    }

    fn entry(&self, leaf: &Leaf<'_>, key: &str) -> Option<&file::Entry> {
        let entries = self.file.iter().flat_map(|file| &file.entries);
        let applies = |entry: &&file::Entry| {
            let section: Vec<&str> = entry.section.iter().map(String::as_str).collect();
            entry.key == key && leaf.is_under(&section)
        };
        entries.filter(applies).max_by_key(|entry| entry.section.len())
    }

    /// A warning where a password lies open.
    pub(super) fn warning(&self) -> Option<String> {
        let file = self.file.as_ref().filter(|file| file.betrays_password)?;
        let path = file.path.display();
        Some(format!("{path} holds a password, and other users may read the file: chmod 600 {path}"))
    }
}

/// The settings without those that are for an object in whose place a stronger layer has a connection string, and notes
/// about these.
fn with_their_objects<'a>(
    typed: &dyn Fn(&str) -> Option<String>,
    found: Vec<Setting<'a>>,
) -> (Vec<Setting<'a>>, Vec<String>) {
    // A connection string, and whether it is stronger than a setting; none for an object.
    let in_place_of_object = |name: &str, setting: &Setting<'_>| {
        let other = found.iter().find(|other| definition::key(other.option) == name);
        let (text, is_stronger) = match (typed(name), other) {
            (Some(text), _) => (text, true),
            (None, Some(other)) => {
                let text = other.values.first().map(|value| value.to_string_lossy().into_owned());
                (text.unwrap_or_default(), other.origin.rank() > setting.origin.rank())
            }
            (None, None) => return None,
        };
        Some((matches!(Endpoint::parse(&text), Ok(Endpoint::ConnectionString(_))), is_stronger))
    };
    let mut notes = Vec::new();
    let is_kept = |setting: &Setting<'_>| {
        let endpoints = endpoints_of(setting.option).iter();
        let given: Vec<(bool, bool)> =
            endpoints.filter_map(|name| in_place_of_object(name, setting)).collect();
        let gives_way = given.iter().all(|(is_string, _)| *is_string)
            && given.iter().any(|(_, is_stronger)| *is_stronger);
        if gives_way {
            let key = definition::key(setting.option);
            notes.push(format!(
                "{key} ({}) gives way to a connection string: no database is an object",
                setting.origin
            ));
        }
        !gives_way
    };
    let keep: Vec<bool> = found.iter().map(is_kept).collect();
    let mut keep = keep.into_iter();
    (found.into_iter().filter(|_| keep.next() == Some(true)).collect(), notes)
}

/// The settings that what is typed, or a stronger one, does not exclude, and notes about the others.
fn in_force<'a>(
    leaf: &Leaf<'_>,
    typed: &[&Arg],
    mut found: Vec<Setting<'a>>,
) -> Result<(Vec<Setting<'a>>, Vec<String>), SettingsError> {
    let mut kept: Vec<Setting<'a>> = Vec::new();
    let mut notes = Vec::new();
    found.sort_by_key(|setting| std::cmp::Reverse(setting.origin.rank()));
    for setting in found {
        let excludes = |other: &Arg| setting.is_on() && leaf.exclude_each_other(setting.option, other);
        let key = definition::key(setting.option);
        if let Some(option) = typed.iter().find(|option| excludes(option)) {
            notes.push(format!("{key} ({}) gives way to --{}", setting.origin, definition::key(option)));
            continue;
        }
        match kept.iter().find(|stronger| stronger.is_on() && excludes(stronger.option)) {
            Some(other) if other.origin.rank() == setting.origin.rank() => {
                return Err(SettingsError::Conflict {
                    at: setting.origin.to_string(),
                    key: key.to_owned(),
                    other: definition::key(other.option).to_owned(),
                    other_at: other.origin.to_string(),
                });
            }
            Some(other) => notes.push(format!(
                "{key} ({}) gives way to {} ({})",
                setting.origin,
                definition::key(other.option),
                other.origin
            )),
            None => kept.push(setting),
        }
    }
    Ok((kept, notes))
}

/// Lets clap read a value as it reads what is typed.
fn check(
    root: &Command,
    leaf: &Leaf<'_>,
    option: &Arg,
    value: &OsStr,
    origin: &Origin,
) -> Result<(), SettingsError> {
    let (at, key) = (origin.to_string(), definition::key(option).to_owned());
    if definition::may_hold_password(option) {
        let text = value.to_string_lossy();
        return match Endpoint::parse(&text) {
            Ok(_) => Ok(()),
            Err(EndpointError::ConnectionString(cause)) => {
                Err(SettingsError::ConnectionString { at, key, cause })
            }
            Err(EndpointError::Object(cause)) => Err(SettingsError::Object { at, key, cause }),
        };
    }
    let path = leaf.path();
    let setting = Setting { option, values: vec![value.to_owned()], origin: origin.clone() };
    let command = with_defaults(root.clone(), &path, &[setting]);
    match command.try_get_matches_from(std::iter::once("pgmove").chain(path)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let value = value.to_string_lossy().into_owned();
            Err(SettingsError::Value { at, key, value, reason: reason(&error) })
        }
    }
}

/// What clap has against a value, without its talk of the command line.
fn reason(error: &clap::Error) -> String {
    match (error.kind(), error.get(ContextKind::ValidValue)) {
        (ErrorKind::InvalidValue, Some(ContextValue::Strings(valid))) if !valid.is_empty() => {
            format!("it must be one of {}", valid.join(", "))
        }
        (ErrorKind::InvalidValue, _) => "a value is missing".into(),
        _ => std::error::Error::source(error).map_or_else(|| error.kind().to_string(), ToString::to_string),
    }
}

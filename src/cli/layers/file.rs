//! `pgmove.toml`: keys are the long names of options, sections are commands.
//!
//! A key above all sections is for every command that has such an option; one in `[run]` is for `pgmove run` and
//! stronger there. Every key and value is checked, also those for other commands than the one that reads the file.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::definition::{Kind, Leaf, is_list, key, may_hold_password};
use super::{SettingsError, check};
use crate::cli::connections::Endpoint;
use crate::settings::Origin;

/// Looked for in the working directory.
const DEFAULT: &str = "pgmove.toml";

/// From which share of equal letters on a known key is offered in the place of an unknown one.
const SIMILAR: f64 = 0.6;

/// A settings file whose every key and value is good.
#[derive(Debug)]
pub(super) struct SettingsFile {
    pub(super) path: PathBuf,
    pub(super) entries: Vec<Entry>,
    /// Whether a password in it can be read by other users.
    pub(super) betrays_password: bool,
}

/// One key.
#[derive(Debug)]
pub(super) struct Entry {
    /// The command whose section it stands in; empty above all sections.
    pub(super) section: Vec<String>,
    pub(super) key: String,
    /// As it would be typed; several of an option that can be given several times.
    pub(super) values: Vec<String>,
    pub(super) origin: Origin,
}

impl SettingsFile {
    /// The file that was named, or the default one if it is there.
    pub(super) fn find(named: Option<&Path>, root: &Command) -> Result<Option<SettingsFile>, SettingsError> {
        let path = named.unwrap_or(Path::new(DEFAULT));
        let unreadable = |cause| SettingsError::Unreadable { file: path.to_owned(), cause };
        let text = match fs::read_to_string(path) {
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(unreadable)?,
        };
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
        let mut file = SettingsFile::parse(path, &text, root)?;
        file.betrays_password = mode & 0o044 != 0 && file.holds_password(root);
        Ok(Some(file))
    }

    /// Checks every key and value against the definitions.
    pub(super) fn parse(path: &Path, text: &str, root: &Command) -> Result<SettingsFile, SettingsError> {
        let reader = Reader { path, text, root, leaves: Leaf::all(root) };
        let table = DeTable::parse(text).map_err(|error| SettingsError::Syntax {
            at: reader.origin(error.span().map_or(0, |span| span.start), &[]).to_string(),
            message: error.message().to_owned(),
        })?;
        let mut entries = Vec::new();
        reader.section(table.get_ref(), &[], &mut entries)?;
        Ok(SettingsFile { path: path.to_owned(), entries, betrays_password: false })
    }

    fn holds_password(&self, root: &Command) -> bool {
        let leaves = Leaf::all(root);
        self.entries.iter().any(|entry| {
            leaves.iter().filter_map(|leaf| leaf.option(&entry.key)).any(may_hold_password)
                && entry
                    .values
                    .iter()
                    .any(|value| Endpoint::parse(value).is_ok_and(|endpoint| endpoint.holds_password()))
        })
    }
}

/// What a file's keys are held against.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    root: &'a Command,
    leaves: Vec<Leaf<'a>>,
}

impl Reader<'_> {
    fn section(
        &self,
        table: &DeTable<'_>,
        section: &[&str],
        entries: &mut Vec<Entry>,
    ) -> Result<(), SettingsError> {
        let mut pairs: Vec<_> = table.iter().collect();
        // The first error of the file is told, not the first of the alphabet.
        pairs.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in pairs {
            let path = [section, &[key.get_ref().as_ref()]].concat();
            let is_command = self.leaves.iter().any(|leaf| leaf.is_under(&path));
            match value.get_ref() {
                DeValue::Table(inner) if is_command => self.section(inner, &path, entries)?,
                value => entries.push(self.entry(key, value, section, is_command)?),
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        name: &Spanned<Cow<'_, str>>,
        value: &DeValue<'_>,
        section: &[&str],
        is_command: bool,
    ) -> Result<Entry, SettingsError> {
        let origin = self.origin(name.span().start, section);
        let key = name.get_ref().clone().into_owned();
        let found: Vec<(&Leaf<'_>, &Arg)> = self
            .leaves
            .iter()
            .filter(|leaf| leaf.is_under(section))
            .filter_map(|leaf| Some((leaf, leaf.option(&key)?)))
            .collect();
        let Some((_, option)) = found.first() else {
            return Err(self.stranger(origin.to_string(), key, value, section, is_command));
        };
        let expected = Kind::of(option);
        let mut values = Vec::new();
        for value in items(value, option) {
            let Some(typed) = typed(value, expected) else {
                let (at, expected, found) = (origin.to_string(), expected.title(), title(value));
                return Err(SettingsError::Type { at, key, expected, found });
            };
            for (leaf, option) in &found {
                check(self.root, leaf, option, typed.as_ref(), &origin)?;
            }
            values.push(typed);
        }
        let section = section.iter().map(|&name| name.to_owned()).collect();
        Ok(Entry { section, key, values, origin })
    }

    /// Why a key that is no option here is refused.
    fn stranger(
        &self,
        at: String,
        key: String,
        value: &DeValue<'_>,
        section: &[&str],
        is_command: bool,
    ) -> SettingsError {
        if is_command {
            let expected = "a section, since it is a command";
            return SettingsError::Type { at, key, expected, found: title(value) };
        }
        let owners: Vec<String> = self
            .leaves
            .iter()
            .filter(|leaf| leaf.option(&key).is_some())
            .map(|leaf| format!("pgmove {}", leaf.path().join(" ")))
            .collect();
        if !owners.is_empty() {
            return SettingsError::NotOfCommand { at, key, section: section.join(" "), owners };
        }
        let similar = self.similar(&key, section);
        SettingsError::Unknown { at, key, section: section.join("."), similar }
    }

    /// The key or section that was probably meant.
    fn similar(&self, written: &str, section: &[&str]) -> Option<String> {
        let here = self.leaves.iter().filter(|leaf| leaf.is_under(section));
        let keys = here.flat_map(|leaf| leaf.options().map(key).map(str::to_owned));
        let sections = self.leaves.iter().map(|leaf| leaf.path().join("."));
        keys.chain(sections)
            .map(|known| (strsim::normalized_damerau_levenshtein(written, &known), known))
            .filter(|(likeness, _)| *likeness > SIMILAR)
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, known)| known)
    }

    fn origin(&self, offset: usize, section: &[&str]) -> Origin {
        let before = String::from_utf8_lossy(&self.text.as_bytes()[..offset]);
        Origin::File {
            file: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            section: section.join("."),
        }
    }
}

/// The values of a list, if the option takes one; else the value itself.
fn items<'a, 'b>(value: &'a DeValue<'b>, option: &Arg) -> Vec<&'a DeValue<'b>> {
    match value {
        DeValue::Array(items) if is_list(option) => items.iter().map(Spanned::get_ref).collect(),
        value => vec![value],
    }
}

/// The value as it would be typed, if it is of the kind.
fn typed(value: &DeValue<'_>, kind: Kind) -> Option<String> {
    match (value, kind) {
        (DeValue::Boolean(value), Kind::Boolean) => Some(value.to_string()),
        // One that does not fit is given to the option's own parser, which tells the range.
        (DeValue::Integer(value), Kind::Integer) => Some(
            i128::from_str_radix(value.as_str(), value.radix())
                .map_or_else(|_| value.to_string(), |value| value.to_string()),
        ),
        (DeValue::String(value), Kind::String) => Some(value.clone().into_owned()),
        _ => None,
    }
}

fn title(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

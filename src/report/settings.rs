//! The settings that hold, for a person: a line for each option, and where its value comes from.

use std::fmt::Write as _;

use serde_json::Value;

use crate::report::grid::grid;
use crate::report::text::{Page, escape};
use crate::settings::{Held, Origin, Overview};

/// All options with their values, and which variables give passwords.
pub fn settings(overview: &Overview, page: Page) -> String {
    let mut out = match &overview.file {
        Some(file) => format!("settings file: {}\n\n", escape(&file.display().to_string())),
        None => "settings file: none (pgmove.toml in this directory, or --config FILE)\n\n".to_owned(),
    };
    let rows: Vec<Vec<String>> = overview
        .options
        .iter()
        .map(|held| {
            vec![
                held.option.clone(),
                value(&held.value),
                origin(&held.from),
                commands(held, &overview.options),
            ]
        })
        .collect();
    out.push_str(&grid(page, &["option", "value", "from", "commands"], &rows));
    out.push('\n');
    for password in &overview.passwords {
        let state = if password.is_set { "set" } else { "not set" };
        let _ = writeln!(out, "{}: {state}", password.variable);
    }
    out
}

/// Nothing where the value holds for every command that has the option.
fn commands(held: &Held, options: &[Held]) -> String {
    let of_others =
        options.iter().filter(|other| other.option == held.option && other.commands != held.commands);
    match of_others.map(|other| other.commands.len()).max() {
        None => String::new(),
        Some(most) if held.commands.len() > most => "the other commands".into(),
        Some(_) => held.commands.join(", "),
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "not set".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::File { section, .. } if !section.is_empty() => format!("{origin} [{section}]"),
        _ => origin.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::report::sample;
    use crate::settings::PasswordVariable;

    fn held(option: &str, value: Value, from: Origin, commands: &[&str]) -> Held {
        let commands = commands.iter().map(|&command| command.to_owned()).collect();
        Held { option: option.to_owned(), value, from, commands }
    }

    fn in_file(line: usize, section: &str) -> Origin {
        Origin::File { file: PathBuf::from("pgmove.toml"), line, column: 1, section: section.to_owned() }
    }

    #[test]
    fn settings_for_a_person() {
        let variable = "PGMOVE_SOURCE".to_owned();
        let overview = Overview {
            file: Some("pgmove.toml".into()),
            options: vec![
                held(
                    "source",
                    json!("postgres://app@old/app"),
                    Origin::Environment { variable },
                    &["run", "dump"],
                ),
                held("jobs", json!(8), in_file(7, "run"), &["run"]),
                held("jobs", json!(2), in_file(1, ""), &["dump", "verify"]),
                held("owner", Value::Null, Origin::Default, &["run", "verify"]),
                held("fence", json!(false), Origin::Default, &["run"]),
            ],
            passwords: vec![PasswordVariable { variable: "PGMOVE_SOURCE_PASSWORD", is_set: true }],
        };
        insta::assert_snapshot!(settings(&overview, sample::PAGE));
    }
}

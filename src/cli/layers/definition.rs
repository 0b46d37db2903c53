//! The options of every command, as clap's definitions have them: there is no other list.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};

/// A command that does something, with the commands that it stands under.
#[derive(Debug, Clone)]
pub(super) struct Leaf<'a> {
    /// From `pgmove` down.
    commands: Vec<&'a Command>,
}

impl<'a> Leaf<'a> {
    /// Every command of `root`, in the order of `--help`.
    pub(super) fn all(root: &'a Command) -> Vec<Leaf<'a>> {
        fn descend<'a>(commands: &[&'a Command], found: &mut Vec<Leaf<'a>>) {
            let last = commands.last().expect("there is a first command");
            for command in last.get_subcommands() {
                descend(&[commands, &[command]].concat(), found);
            }
            if !last.has_subcommands() {
                found.push(Leaf { commands: commands.to_vec() });
            }
        }
        let mut found = Vec::new();
        descend(&[root], &mut found);
        found
    }

    /// What is typed after `pgmove`.
    pub(super) fn path(&self) -> Vec<&'a str> {
        self.commands[1..].iter().map(|command| command.get_name()).collect()
    }

    /// Whether the section `path` of a settings file is about it.
    pub(super) fn is_under(&self, path: &[&str]) -> bool {
        self.path().starts_with(path)
    }

    /// The options that can be set: its own, and those of the commands above that hold everywhere.
    pub(super) fn options(&self) -> impl Iterator<Item = &'a Arg> {
        let (own, above) = self.commands.split_last().expect("a leaf is a command");
        let inherited = above.iter().flat_map(|command| command.get_arguments());
        own.get_arguments()
            .chain(inherited.filter(|option| option.is_global_set()))
            .filter(|option| is_setting(option))
    }

    /// The option `--key`.
    pub(super) fn option(&self, key: &str) -> Option<&'a Arg> {
        self.options().find(|option| option.get_long() == Some(key))
    }

    /// Whether the definitions forbid to give both.
    pub(super) fn exclude_each_other(&self, one: &Arg, other: &Arg) -> bool {
        self.excludes(one, other) || self.excludes(other, one)
    }

    fn excludes(&self, one: &Arg, other: &Arg) -> bool {
        let defines =
            |command: &&&Command| command.get_arguments().any(|option| option.get_id() == one.get_id());
        self.commands.iter().find(defines).is_some_and(|command| {
            command.get_arg_conflicts_with(one).iter().any(|option| option.get_id() == other.get_id())
        })
    }
}

/// Whether the environment and a file may give it: not the file's own name, nor what has no name.
pub(super) fn is_setting(option: &Arg) -> bool {
    option.get_long().is_some_and(|long| long != "config")
}

/// The option's name without dashes, which is its key in a settings file.
pub(super) fn key(option: &Arg) -> &str {
    option.get_long().expect("a setting has a long name")
}

/// The environment variable that gives it.
pub(super) fn variable(option: &Arg) -> String {
    format!("PGMOVE_{}", key(option).replace('-', "_").to_uppercase())
}

/// Whether its value is a connection string, which may hold a password.
pub(super) fn may_hold_password(option: &Arg) -> bool {
    option.is_hide_env_values_set()
}

/// Whether it can be given several times; a settings file then has a list, or one value.
pub(super) fn is_list(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// The type that its value has in TOML and in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    String,
}

impl Kind {
    pub(super) fn of(option: &Arg) -> Kind {
        let parsed = option.get_value_parser().type_id();
        let integers = [
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
        ];
        match option.get_action() {
            ArgAction::SetTrue => Kind::Boolean,
            ArgAction::Count => Kind::Integer,
            _ if integers.iter().any(|integer| parsed == *integer) => Kind::Integer,
            _ => Kind::String,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Kind::Boolean => "a boolean",
            Kind::Integer => "an integer",
            Kind::String => "a string",
        }
    }
}

/// The definitions with every option changed that the command at `path` has.
pub(super) fn map_options(command: Command, path: &[&str], change: &mut dyn FnMut(Arg) -> Arg) -> Command {
    let command = command.mut_args(&mut *change);
    match path.split_first() {
        Some((next, rest)) => command.mut_subcommand(next, |command| map_options(command, rest, change)),
        None => command,
    }
}

/// The definitions with every option of every command changed.
pub(super) fn map_all(command: Command, change: &mut dyn FnMut(Arg) -> Arg) -> Command {
    command.mut_args(&mut *change).mut_subcommands(|command| map_all(command, change))
}

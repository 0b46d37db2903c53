//! Settings as an operator gives them: `pgmove.toml`, variables, flags; and what is made of the same definitions.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::pgmove;

/// An empty directory to work in.
fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A directory with this `pgmove.toml`, which only its owner may read.
fn directory_with(text: impl AsRef<[u8]>) -> TempDir {
    let directory = directory();
    let file = directory.path().join("pgmove.toml");
    fs::write(&file, text).expect("a file");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("permissions");
    directory
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn pgmove_in(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let output = pgmove().current_dir(directory).args(arguments).envs(variables.iter().copied()).output();
    let output = output.expect("pgmove runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The help of a command, and that of all under it.
fn commands(path: &[String]) -> Vec<(Vec<String>, String)> {
    let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["-h"]).collect();
    let help = pgmove_in(directory().path(), &arguments, &[]).stdout;
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return vec![(path.to_vec(), help)] };
    let names = list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.flat_map(|name| commands(&[path, &[name.to_owned()]].concat())).collect()
}

/// An option as its help shows it.
struct Shown {
    name: String,
    /// All of its help, on one line.
    help: String,
}

fn options(help: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    // An example that is broken into lines may show an option at the beginning of one.
    let help = help.split("\nExamples:").next().expect("a part");
    for line in help.lines() {
        let text = line.trim_start();
        // Further in stands help, whose lines may begin with the name of another option.
        let is_option = line.starts_with("  ") && !line.starts_with("        ") && text.contains("--");
        if is_option && text.starts_with('-') {
            let name =
                text.split("--").nth(1).expect("an option").split([' ', '.']).next().expect("its name");
            found.push(Shown { name: name.to_owned(), help: text.to_owned() });
        } else if let Some(last) = found.last_mut().filter(|_| line.starts_with("   ")) {
            last.help = format!("{} {text}", last.help);
        }
    }
    found.retain(|option| !["help", "version", "config"].contains(&option.name.as_str()));
    found
}

/// Two values of an option, as they are written in TOML.
fn samples(option: &Shown) -> [String; 2] {
    let words = option.help.split_once("[possible values: ").map(|(_, rest)| rest.split([',', ']']));
    match words {
        Some(words) => words.take(2).map(|word| format!("\"{}\"", word.trim())).collect::<Vec<_>>(),
        None if option.help.contains("<ENDPOINT>") || ["source", "target"].contains(&&*option.name) => {
            vec!["\"postgres://a@h/d\"".into(), "\"postgres://b@h/d\"".into()]
        }
        None if option.help.contains("<N>")
            || option.help.contains("<MIB>")
            || option.help.contains("<SECONDS>")
            || option.help.contains("...") =>
        {
            vec!["20".into(), "21".into()]
        }
        None if option.help.contains(&format!("--{} <", option.name)) => {
            vec!["\"one\"".into(), "\"two\"".into()]
        }
        None => vec!["true".into(), "false".into()],
    }
    .try_into()
    .expect("two values")
}

/// What `pgmove config show` says of an option of a command.
fn held(directory: &Path, option: &str, command: &str, variables: &[(&str, &str)]) -> Value {
    let ended = pgmove_in(directory, &["config", "show", "--output", "json"], variables);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let result: Value = serde_json::from_str(ended.stdout.lines().last().expect("a line")).expect("JSON");
    let options = result["result"]["settings"]["options"].as_array().expect("options").clone();
    let is_asked = |held: &Value| {
        held["option"] == option
            && held["commands"].as_array().is_some_and(|commands| commands.contains(&command.into()))
    };
    options.into_iter().find(is_asked).unwrap_or_else(|| panic!("{command} has no {option}"))
}

#[test]
fn every_option_of_every_help_stands_in_the_file_and_in_a_variable() {
    let mut tried = 0;
    for (path, help) in commands(&[]) {
        let (command, section) = (path.join(" "), path.join("."));
        for option in options(&help) {
            let variable = format!("PGMOVE_{}", option.name.replace('-', "_").to_uppercase());
            assert!(option.help.contains(&format!("[env: {variable}")), "{command}: {}", option.help);
            let [in_file, in_variable] = samples(&option);
            let value = |written: &str| serde_json::from_str::<Value>(written).expect("TOML like JSON");
            let directory = directory_with(format!("[{section}]\n{} = {in_file}\n", option.name));
            let from_file = held(directory.path(), &option.name, &command, &[]);
            assert_eq!(from_file["value"], value(&in_file), "{command} --{}", option.name);
            assert_eq!(from_file["from"]["section"], section, "{from_file}");
            assert_eq!(from_file["from"]["line"], 2, "{from_file}");
            // The form of the output is typed here, which is stronger for this command alone.
            let variables = [(variable.as_str(), in_variable.trim_matches('"'))];
            let from_variable = held(directory.path(), &option.name, &command, &variables);
            assert_eq!(from_variable["value"], value(&in_variable), "{command} {variable}");
            assert_eq!(from_variable["from"]["variable"], variable, "{from_variable}");
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} options were found");
}

#[test]
fn a_flag_is_stronger_than_a_variable_and_that_than_a_section_and_the_file() {
    let source = |port: u16| format!("postgres://app@127.0.0.1:{port}/app");
    let file = format!(
        "source = \"{}\"\ntarget = \"{}\"\n[verify]\nsource = \"{}\"\n",
        source(1),
        source(9),
        source(2)
    );
    let directory = directory_with(file);
    let asked = |command: &str, typed: &[&str], variables: &[(&str, &str)], port: u16| {
        let ended = pgmove_in(directory.path(), &[&[command], typed].concat(), variables);
        assert!(ended.stderr.contains(&format!("127.0.0.1:{port}/app")), "{}", ended.stderr);
    };
    let (variable, flag) = (source(3), source(4));
    asked("fence", &[], &[], 1);
    asked("verify", &[], &[], 2);
    asked("verify", &[], &[("PGMOVE_SOURCE", &variable)], 3);
    asked("verify", &["--source", &flag], &[("PGMOVE_SOURCE", &variable)], 4);
}

#[test]
fn settings_that_cannot_be_followed_are_refused_and_nothing_is_done() {
    for (text, phrases) in [
        (&b"jobs = 3\njbos = 3"[..], &["error: pgmove.toml:2:1: unknown key jbos", "did you mean jobs?"][..]),
        (b"[fence]\njobs = 1", &["pgmove.toml:2:1: pgmove fence has no option jobs", "pgmove run, "]),
        (b"[run]\njobs = true", &["pgmove.toml:2:1: jobs must be an integer, not a boolean"]),
        (b"jobs = 1000", &["pgmove.toml:1:1: jobs cannot be \"1000\": 1000 is not in 1..=256"]),
        (b"jobs 3", &["pgmove.toml:1:6: the settings file is no TOML: "]),
        (b"owner = \"\xff\"", &["could not read the settings file pgmove.toml", "UTF-8"]),
        (
            b"counts = true\nreread = true",
            &["counts", "reread", "cannot be set together with", "pgmove.toml:2:1"],
        ),
        (
            b"source = \"host=old password=geheim x=1\"",
            &["source is not a connection string", "parameter \"x\""],
        ),
    ] {
        let directory = directory_with(text);
        let command = if text.starts_with(b"counts") { "verify" } else { "run" };
        let ended = pgmove_in(directory.path(), &[command], &[]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        // The page may break lines anywhere between words.
        let said = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for phrase in phrases {
            assert!(said.contains(phrase), "{phrase} is not in: {said}");
        }
        assert!(!said.contains("geheim"), "{said}");
        assert_eq!(
            fs::read_dir(directory.path()).expect("a directory").count(),
            1,
            "nothing else was written"
        );
    }
    for (arguments, variables, phrase) in [
        (
            &["verify", "--config", "missing.toml"][..],
            &[][..],
            "could not read the settings file missing.toml",
        ),
        (&["verify", "--config", "."], &[], "could not read the settings file ."),
        (&["verify"], &[("PGMOVE_CONFIG", "missing.toml")], "could not read the settings file missing.toml"),
        (&["verify"], &[("PGMOVE_JOBS", "many")], "PGMOVE_JOBS: jobs cannot be \"many\": "),
        (
            &["run"],
            &[("PGMOVE_FENCE", "yes")],
            "PGMOVE_FENCE: fence cannot be \"yes\": it must be one of true, false",
        ),
    ] {
        let ended = pgmove_in(directory().path(), arguments, variables);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(phrase), "{phrase} is not in: {}", ended.stderr);
    }
}

#[test]
fn a_script_gets_an_error_in_its_settings_as_json() {
    let directory = directory_with("jbos = 3");
    for (arguments, variables) in
        [(&["verify", "--output", "json"][..], &[][..]), (&["verify"], &[("PGMOVE_OUTPUT", "json")])]
    {
        let ended = pgmove_in(directory.path(), arguments, variables);
        assert_eq!(ended.code, Some(2));
        let result: Value = serde_json::from_str(&ended.stdout).expect("one JSON value");
        assert_eq!(result["result"]["error"]["messages"][0], "pgmove.toml:1:1: unknown key jbos");
        assert_eq!(result["result"]["error"]["class"], "user");
    }
}

#[test]
fn help_is_given_however_broken_the_settings_are() {
    let directory = directory_with("this is no TOML");
    for arguments in [&["--help"][..], &["run", "--help"], &["help", "verify"], &["--version"]] {
        let ended = pgmove_in(directory.path(), arguments, &[("PGMOVE_JOBS", "many")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    let help = pgmove_in(directory.path(), &["--help"], &[]).stdout;
    for side in ["SOURCE", "TARGET", "TARGET_ADMIN"] {
        assert!(help.contains(&format!("PGMOVE_{side}_PASSWORD")), "{help}");
    }
}

#[test]
fn the_file_in_use_is_told_and_one_that_betrays_a_password_too() {
    let directory = directory_with("source = \"postgres://app:geheim@127.0.0.1:1/app\"");
    let fence =
        |arguments: &[&str]| pgmove_in(directory.path(), &[&["fence"], arguments].concat(), &[]).stderr;
    assert!(fence(&["-v"]).contains("settings are read from pgmove.toml"));
    assert!(!fence(&[]).contains("pgmove.toml"), "{}", fence(&[]));
    let file = directory.path().join("pgmove.toml");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("permissions");
    assert!(fence(&[]).contains("warning: pgmove.toml holds a password, and other users may read the file"));
    for form in ["text", "json"] {
        let ended = pgmove_in(directory.path(), &["config", "show", "--output", form], &[]);
        assert!(ended.stdout.contains("app@127.0.0.1:1/app (with a password)"), "{}", ended.stdout);
        assert!(!(ended.stdout + &ended.stderr).contains("geheim"));
    }
    fs::write(&file, "source = \"postgres://app@127.0.0.1:1/app\"").expect("a file");
    assert!(!fence(&[]).contains("holds a password"), "{}", fence(&[]));
}

/// Whether a shell finds no fault in a script, if it is installed here.
fn accepts(shell: &str, check: &str, script: &Path) -> Option<bool> {
    let mut command = Command::new(shell);
    let status = command.arg(check).arg(script).stderr(Stdio::inherit()).status();
    status.ok().map(|status| status.success())
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    // Nothing but the script may stand on stdout, whatever the settings are.
    let directory = directory_with("verbose = 1");
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let ended = pgmove_in(directory.path(), &["completions", shell], &[("PGMOVE_OUTPUT", "json")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(!ended.stdout.contains("\"event\""), "{}", ended.stdout);
        for (path, help) in commands(&[]) {
            for word in path
                .iter()
                .map(String::as_str)
                .chain(options(&help).iter().map(|option| option.name.as_str()))
            {
                assert!(ended.stdout.contains(word), "{shell}: {word}");
            }
        }
        let script = directory.path().join(shell);
        fs::write(&script, &ended.stdout).expect("a file");
        match accepts(shell, check, &script) {
            Some(is_good) => assert!(is_good, "{shell} refuses its completions"),
            None if std::env::var_os("CI").is_some() => panic!("CI installs {shell}"),
            None => eprintln!("skipped: {shell} is not installed, its completions were not read by it"),
        }
    }
    let asked = "source ./bash; COMP_WORDS=(pgmove verify --rer); COMP_CWORD=2; _pgmove pgmove --rer verify; echo ${COMPREPLY[@]}";
    let answer =
        Command::new("bash").current_dir(directory.path()).args(["-c", asked]).output().expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "--reread");
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = directory();
    let ended = pgmove_in(directory.path(), &["man", "--output-dir", "man1"], &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for (path, help) in commands(&[]) {
        let page = format!("man1/pgmove-{}.1", path.join("-"));
        let page = fs::read_to_string(directory.path().join(&page))
            .unwrap_or_else(|error| panic!("{page}: {error}"));
        for option in options(&help)
            .iter()
            .filter(|option| !["quiet", "verbose", "output"].contains(&option.name.as_str()))
        {
            let variable = format!("PGMOVE_{}", option.name.replace('-', "_").to_uppercase());
            for word in [option.name.replace('-', "\\-"), variable] {
                assert!(page.contains(&word), "pgmove-{}.1 lacks {word}", path.join("-"));
            }
        }
    }
    let page = pgmove_in(directory.path(), &["man"], &[]).stdout;
    assert_eq!(page, fs::read_to_string(directory.path().join("man1/pgmove.1")).expect("pgmove(1)"));
    let refused = pgmove_in(directory.path(), &["man", "--output-dir", "man1/pgmove.1"], &[]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("could not write manual pages into man1/pgmove.1"), "{}", refused.stderr);
}

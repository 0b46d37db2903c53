use std::fmt::Write as _;
use std::io::Write as _;

use super::definition::{key, variable};
use super::*;
use crate::error::Fault as _;

/// Options that may only be typed together with another.
const TOGETHER: [(&str, &str); 1] = [("digests", "--dry-run")];

fn settings_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it takes text");
    file
}

/// What `pgmove` would do with `typed`, a file that holds `text`, and variables.
fn settled(
    typed: &[&str],
    text: &str,
    environment: &[(&str, &str)],
) -> Result<(ArgMatches, Layers, Vec<String>), Unsettled> {
    let file = settings_file(text);
    let config = ["pgmove", "--config", file.path().to_str().expect("a path in UTF-8")];
    let typed: Vec<OsString> = config.iter().chain(typed).map(OsString::from).collect();
    matches(&typed, environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

/// Four values of an option, as they are typed; each of the last two differs from the one before.
fn samples(option: &Arg) -> [String; 4] {
    let words: Vec<String> = match Kind::of(option) {
        Kind::Boolean => return ["true", "false", "true", "true"].map(str::to_owned),
        Kind::Integer => (20..24).map(|number| number.to_string()).collect(),
        Kind::String if definition::may_hold_password(option) => {
            // Objects, since what is said of objects would give way to connection strings.
            (1..5).map(|number| format!("sts/app-{number}")).collect()
        }
        Kind::String => match option.get_possible_values() {
            possible if possible.is_empty() => ["one", "two", "three", "four"].map(str::to_owned).into(),
            possible => possible.iter().map(|value| value.get_name().to_owned()).cycle().take(4).collect(),
        },
    };
    words.try_into().expect("four words")
}

fn toml(option: &Arg, value: &str) -> String {
    if Kind::of(option) == Kind::String {
        format!("{} = \"{value}\"\n", key(option))
    } else {
        format!("{} = {value}\n", key(option))
    }
}

fn flags(option: &Arg, value: &str) -> Vec<String> {
    match option.get_action() {
        clap::ArgAction::SetTrue => vec![format!("--{}", key(option))],
        clap::ArgAction::Count => vec![format!("--{}", key(option)); value.parse().expect("a number")],
        _ => vec![format!("--{}={value}", key(option))],
    }
}

/// What must be typed for the command at least, but for one option.
fn least(leaf: &Leaf<'_>, but: &Arg) -> Vec<String> {
    let complete = Arguments::command();
    let complete =
        Leaf::all(&complete).into_iter().find(|other| other.path() == leaf.path()).expect("the same");
    let mut typed: Vec<String> = leaf.path().into_iter().map(str::to_owned).collect();
    let required =
        complete.options().filter(|option| option.is_required_set() && option.get_id() != but.get_id());
    typed.extend(required.flat_map(|option| flags(option, &samples(option)[0])));
    typed.extend(match leaf.path()[..] {
        ["archive", "check"] => Some("directory".to_owned()),
        ["completions"] => Some("bash".to_owned()),
        _ => None,
    });
    typed
}

#[test]
fn every_option_of_every_command_is_set_by_file_section_variable_and_flag() {
    let root = lenient();
    let mut tried = 0;
    for leaf in Leaf::all(&root) {
        for option in leaf.options() {
            let [file, section, environment, flag] = samples(option);
            let least = least(&leaf, option);
            let what = format!("--{} of {}", key(option), leaf.path().join(" "));
            let set = |typed: &[String], text: &str, variables: &[(&str, &str)]| {
                let typed: Vec<&str> = least.iter().chain(typed).map(String::as_str).collect();
                let (matches, ..) =
                    settled(&typed, text, variables).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                let values = leaf_matches(&matches).get_raw(option.get_id().as_str());
                values.and_then(Iterator::last).expect("a value").to_string_lossy().into_owned()
            };
            let name = variable(option);
            let mut text = toml(option, &file);
            assert_eq!(set(&[], &text, &[]), file, "{what}: file");
            let _ = write!(text, "[{}]\n{}", leaf.path().join("."), toml(option, &section));
            assert_eq!(set(&[], &text, &[]), section, "{what}: section over file");
            assert_eq!(set(&[], &text, &[(&name, &environment)]), environment, "{what}: variable over file");
            // A flag cannot be typed as false, so the variable is.
            let weaker = if Kind::of(option) == Kind::Boolean { "false" } else { &environment };
            let mut typed = flags(option, &flag);
            typed.extend(
                TOGETHER.iter().filter(|(one, _)| *one == key(option)).map(|(_, with)| (*with).to_owned()),
            );
            assert_eq!(set(&typed, &text, &[(&name, weaker)]), flag, "{what}: flag over variable");
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} options were found");
}

#[test]
fn an_option_that_can_be_given_several_times_takes_a_list() {
    let several = "[freeze]\nworkload = [\"deploy/one\", \"cronjob/two\"]\n";
    let given = |typed: &[&str]| -> Vec<String> {
        let least = ["freeze", "--source=sts/app"];
        let (matches, ..) = settled(&[&least, typed].concat(), several, &[]).expect("a good file");
        let values = leaf_matches(&matches).get_many::<String>("named").expect("some");
        values.cloned().collect()
    };
    assert_eq!(given(&[]), ["deploy/one", "cronjob/two"]);
    assert_eq!(given(&["--workload=job/three"]), ["job/three"], "what is typed is stronger");
    let layers = Layers {
        file: Some(SettingsFile::parse("pgmove.toml".as_ref(), several, &lenient()).expect("good")),
        environment: Environment::new(),
    };
    let shown = layers.overview().expect("good").options;
    let shown = shown.iter().find(|held| held.option == "workload" && held.commands == ["freeze"]);
    assert_eq!(shown.map(|held| &held.value), Some(&serde_json::json!(["deploy/one", "cronjob/two"])));
    assert!(
        complaint("workload = [\"deploy/one\", 2]").contains("workload must be a string, not an integer")
    );
    assert!(complaint("jobs = [1, 2]").contains("jobs must be an integer, not an array"));
}

/// The error for a file that holds `text`: message, causes and hint.
fn complaint(text: &str) -> String {
    let parsed = SettingsFile::parse("pgmove.toml".as_ref(), text, &lenient());
    let error = parsed.expect_err("a file with something wrong");
    format!("{} | {}", error, error.hint().unwrap_or_default())
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_place() {
    for (text, expected) in [
        ("jbos = 3", "pgmove.toml:1:1: unknown key jbos | did you mean jobs?"),
        ("\n[run]\n  jbos = 3", "pgmove.toml:3:3: unknown key jbos in [run] | did you mean jobs?"),
        ("[rnu]\njobs = 3", "pgmove.toml:1:2: unknown key rnu | did you mean run?"),
        ("password = \"x\"", "pgmove.toml:1:1: unknown key password | keys are the long options"),
        ("ä = 1", "pgmove.toml:1:1: the settings file is no TOML: "),
        ("jobs = 1\njobs = 2", "pgmove.toml:2:1: the settings file is no TOML: duplicate key"),
        (
            "[run]\ncounts = true",
            "pgmove.toml:2:1: pgmove run has no option counts | counts is an option of pgmove verify",
        ),
        ("[archive.check]\njobs = 1", "pgmove.toml:2:1: pgmove archive check has no option jobs | "),
        ("jobs = \"3\"", "pgmove.toml:1:1: jobs must be an integer, not a string"),
        ("fence = 1", "pgmove.toml:1:1: fence must be a boolean, not an integer"),
        ("source = [\"postgres://h\"]", "pgmove.toml:1:1: source must be a string, not an array"),
        ("verify = true", "pgmove.toml:1:1: verify must be a section, since it is a command, not a boolean"),
        ("[jobs]\nrun = 1", "pgmove.toml:1:2: jobs must be an integer, not a table"),
        ("[[run]]\njobs = 1", "pgmove.toml:1:3: run must be a section, since it is a command, not an array"),
        ("jobs = 0", "pgmove.toml:1:1: jobs cannot be \"0\": 0 is not in 1..=256"),
        (
            "jobs = 0x7fffffffffffffffffffffff",
            "pgmove.toml:1:1: jobs cannot be \"39614081257132168796771975167\": ",
        ),
        ("output = \"xml\"", "pgmove.toml:1:1: output cannot be \"xml\": it must be one of text, json"),
        (
            "source = \"postgres://h?sslmod=x\"",
            "pgmove.toml:1:1: source is not a connection string that pgmove understands | look for",
        ),
        (
            "source = \"sts/App\"",
            "pgmove.toml:1:1: source is no object that a database is looked for behind | names have",
        ),
    ] {
        let found = complaint(text);
        assert!(found.starts_with(expected), "{text}\n  gives    {found}\n  expected {expected}");
    }
}

#[test]
fn options_that_exclude_each_other_give_way_between_layers_only() {
    let run = ["run", "--source=postgres://app@old/app", "--target=postgres://app@new/app"];
    let fenced = |typed: &[&str], text: &str, environment: &[(&str, &str)]| {
        let (matches, _, notes) =
            settled(&[&run[..], typed].concat(), text, environment).expect("settings without fault");
        let leaf = leaf_matches(&matches);
        (leaf.get_flag("fence"), leaf.get_flag("dry_run"), notes.len() - 1)
    };
    assert_eq!(fenced(&["--dry-run"], "fence = true", &[]), (false, true, 1));
    assert_eq!(fenced(&["--dry-run"], "", &[("PGMOVE_FENCE", "true")]), (false, true, 1));
    assert_eq!(fenced(&[], "fence = true", &[("PGMOVE_DRY_RUN", "true")]), (false, true, 1));
    assert_eq!(fenced(&[], "dry-run = true\n[run]\nfence = true", &[]), (true, false, 1));
    assert_eq!(fenced(&["--fence"], "dry-run = false", &[]), (true, false, 0));
    let (matches, ..) =
        settled(&[&run[..], &["-v"]].concat(), "quiet = true", &[]).expect("settings without fault");
    assert!(!matches.get_flag("quiet") && matches.get_count("verbose") == 1);
    let both = settled(&run, "dry-run = true\nfence = true", &[]).expect_err("a contradiction");
    assert!(matches!(both, Unsettled::Setting(SettingsError::Conflict { .. }, _)), "{both:?}");
    let typed =
        settled(&[&run[..], &["--dry-run", "--fence"]].concat(), "", &[]).expect_err("a contradiction");
    assert!(matches!(typed, Unsettled::CommandLine(_)), "{typed:?}");
}

#[test]
fn what_is_said_of_objects_gives_way_to_connection_strings_of_a_stronger_layer() {
    let uris = ["--source=postgres://app@old/app", "--target=postgres://app@new/app"];
    let file =
        "namespace = \"media\"\nsource-secret = \"login\"\nsource = \"sts/app\"\ntarget = \"cluster/app\"";
    let held = |typed: &[&str], environment: &[(&str, &str)]| {
        let (matches, _, notes) =
            settled(&[&["verify"], typed].concat(), file, environment).expect("settings without fault");
        let leaf = leaf_matches(&matches);
        let is_held = |option: &str| leaf.get_raw(option).is_some();
        (is_held("namespace"), is_held("source_secret"), notes.len() - 1)
    };
    assert_eq!(held(&[], &[]), (true, true, 0));
    assert_eq!(held(&uris[..1], &[]), (true, false, 1), "the target is an object still");
    assert_eq!(held(&uris, &[]), (false, false, 2));
    let source = ("PGMOVE_SOURCE", "postgres://app@old/app");
    assert_eq!(held(&uris[1..], &[source]), (false, false, 2));
    // What is as strong stays, and is refused when the databases are looked for.
    assert_eq!(held(&[uris[0], uris[1], "--namespace=apps"], &[]), (true, false, 2));
    let both =
        "namespace = \"media\"\nsource = \"postgres://app@old/app\"\ntarget = \"postgres://app@new/app\"";
    let (matches, ..) = settled(&["verify"], both, &[]).expect("settings without fault");
    assert!(leaf_matches(&matches).get_raw("namespace").is_some());
}

#[test]
fn no_password_is_shown() {
    let text = "source = \"postgres://app:geheim@old/app\"\ntarget = \"host=new user=app password=geheim dbname=app\"";
    let environment = [
        ("PGMOVE_TARGET_ADMIN", "postgres://admin@new/app?password=geheim"),
        ("PGMOVE_SOURCE_PASSWORD", "geheim"),
    ];
    let (_, layers, _) = settled(&["config", "show"], text, &environment).expect("settings without fault");
    let shown = serde_json::to_string(&layers.overview().expect("settings without fault")).expect("JSON");
    assert!(!shown.contains("geheim"), "{shown}");
    assert_eq!(shown.matches("(with a password)").count(), 3, "{shown}");
}

#[test]
fn the_definitions_are_sound() {
    described().debug_assert();
}

/// The table of docs/settings.md, as the definitions have it.
fn documented() -> String {
    let root = lenient();
    let leaves = Leaf::all(&root);
    let mut keys: Vec<&str> = Vec::new();
    for option in leaves.iter().flat_map(Leaf::options).map(key) {
        if !keys.contains(&option) {
            keys.push(option);
        }
    }
    let mut table =
        String::from("| key | variable | type | commands | what it does |\n|---|---|---|---|---|\n");
    for key in keys {
        let owners: Vec<(&Leaf<'_>, &Arg)> =
            leaves.iter().filter_map(|leaf| Some((leaf, leaf.option(key)?))).collect();
        let commands: Vec<String> = owners.iter().map(|(leaf, _)| leaf.path().join(" ")).collect();
        let commands = if owners.len() == leaves.len() { "all".into() } else { commands.join(", ") };
        let mut helps: Vec<String> = Vec::new();
        for (_, option) in &owners {
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help.replace('\n', " ").replace('<', "&lt;");
            if !helps.contains(&help) {
                helps.push(help);
            }
        }
        let option = owners[0].1;
        let possible = option.get_possible_values();
        let kind = match Kind::of(option) {
            Kind::String if !possible.is_empty() => possible
                .iter()
                .map(|value| format!("`\"{}\"`", value.get_name()))
                .collect::<Vec<_>>()
                .join(", "),
            kind => {
                let kind = kind.title().rsplit(' ').next().expect("a word");
                if definition::is_list(option) { format!("{kind}, or a list") } else { kind.to_owned() }
            }
        };
        let _ = writeln!(
            table,
            "| `{key}` | `{}` | {kind} | {commands} | {} |",
            variable(option),
            helps.join("<br>")
        );
    }
    table
}

#[test]
fn every_option_is_documented() {
    let document = include_str!("../../../docs/settings.md");
    let expected = documented();
    assert!(document.contains(&expected), "docs/settings.md should have this table:\n{expected}");
}

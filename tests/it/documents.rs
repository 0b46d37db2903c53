//! The documents' own ground: every file and every test that they name is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::support::pgmove;

const DOCUMENTS: [&str; 17] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/README.md",
    "docs/archive.md",
    "docs/cluster.md",
    "docs/containers.md",
    "docs/exit-codes.md",
    "docs/findings.md",
    "docs/getting-started.md",
    "docs/kubernetes.md",
    "docs/performance.md",
    "docs/plan.md",
    "docs/report.md",
    "docs/settings.md",
    "docs/troubleshooting.md",
    "docs/window.md",
    "tests/fixtures/library/README.md",
];

/// Folders whose files a document may name by their path.
const FOLDERS: [&str; 6] = ["src/", "sql/", "tests/", "docs/", "xtask/", ".ci/"];

#[test]
fn every_file_and_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code: String = ["src", "tests", "xtask"].iter().map(|folder| rust(&root.join(folder))).collect();
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).expect("a document of the repository");
        for word in named(&text) {
            let is_there = if FOLDERS.iter().any(|folder| word.starts_with(folder)) {
                root.join(word).exists()
            } else if is_test(word) {
                code.contains(&format!("fn {word}("))
            } else {
                true
            };
            if !is_there {
                wrong.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not in the tree:\n{}", wrong.join("\n"));
}

#[test]
fn every_link_of_a_document_leads_to_a_file_or_a_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let folder = Path::new(document).parent().expect("a document is in a folder");
        let text = read(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { root.join(document) } else { root.join(folder).join(file) };
            let is_there = heading.is_empty()
                || fs::read_to_string(&file)
                    .is_ok_and(|text| text.lines().any(|line| anchor(line) == heading));
            if !file.exists() || !is_there {
                wrong.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "lead nowhere:\n{}", wrong.join("\n"));
}

/// What a link to a heading has after its `#`; nothing for another line.
fn anchor(line: &str) -> String {
    let heading = line.strip_prefix('#').map_or("", |rest| rest.trim_start_matches('#').trim());
    let letters = heading.to_lowercase().replace(' ', "-");
    letters.chars().filter(|letter| letter.is_alphanumeric() || ['-', '_'].contains(letter)).collect()
}

#[test]
fn exit_codes_are_told_alike_by_the_readme_and_by_help() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a document of the repository");
    let (_, table) = readme.split_once("### Exit codes").expect("it has that heading");
    let (table, _) = table.split_once("\n## ").expect("another heading follows");
    let rows =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let told: Vec<String> =
        rows.skip(1).map(|(code, meaning)| format!("{code} {}", meaning.replace('`', ""))).collect();
    let help = pgmove().arg("--help").output().expect("pgmove runs").stdout;
    let help = String::from_utf8(help).expect("it is UTF-8");
    let (_, help) = help.split_once("Exit codes:").expect("they are its end");
    assert_eq!(help.split_whitespace().collect::<Vec<_>>().join(" "), told.join(" "));
}

/// What stands between backticks on one line, but for examples of several words and placeholders.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|word| !word.contains([' ', '<', '*', '{']))
}

/// Tests are named by sentences; no setting or function of PostgreSQL that is named here has so many words.
fn is_test(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && word.matches('_').count() >= 4
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Numbers and their meanings, of lines such as `| 0 | done and proven |`.
fn table_of_codes(text: &str) -> BTreeMap<u8, String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    rows.filter_map(|(code, rest)| Some((code.parse().ok()?, cell(rest).replace('`', "")))).collect()
}

/// The text up to the next border of a table.
fn cell(row: &str) -> &str {
    row.split(" |").next().expect("a part").trim()
}

#[test]
fn exit_codes_are_documented_as_they_are() {
    let code = read("src/error.rs");
    let arms = code.lines().filter_map(|line| line.trim().strip_prefix("Exit::")?.split_once(" => "));
    let made: Vec<u8> = arms.filter_map(|(_, number)| number.trim_end_matches(',').parse().ok()).collect();
    assert!(made.len() > 8, "{made:?}");
    let documented = table_of_codes(&read("docs/exit-codes.md"));
    assert_eq!(documented.keys().copied().collect::<Vec<_>>(), made);
    assert_eq!(table_of_codes(&read("README.md")), documented);
}

/// The texts in the code's `#[error]` attributes, with `…` in the place of values; none for a value alone.
fn messages(code: &str) -> Vec<String> {
    let attributes = code.split("#[error(").skip(1).map(str::trim_start);
    let literals = attributes.filter_map(|attribute| attribute.strip_prefix('"'));
    literals.map(|rest| with_gaps(&literal(rest))).filter(|message| message != "…").collect()
}

/// The rest of a string literal, without its escapes.
fn literal(rest: &str) -> String {
    let mut text = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}

fn with_gaps(message: &str) -> String {
    let mut parts = message.split('{');
    let first = parts.next().expect("a part").to_owned();
    let text = parts.fold(first, |text, part| text + "…" + part.split_once('}').map_or("", |(_, rest)| rest));
    // Two values may follow each other, and a document sets the whole message between backticks.
    text.replace("……", "…").replace('`', "")
}

/// The first cells of a document's tables.
fn explained(document: &str) -> Vec<&str> {
    document.lines().filter_map(|line| line.strip_prefix("| `")?.split("` |").next()).collect()
}

#[test]
fn every_message_is_explained_and_no_other() {
    let document = read("docs/troubleshooting.md");
    let explained = explained(&document);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known = messages(&rust(&root.join("src")));
    assert!(known.len() > 200, "{known:?}");
    let missing: Vec<&String> = known.iter().filter(|text| !explained.contains(&text.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:#?}");
    let unknown: Vec<&&str> =
        explained.iter().filter(|text| !known.iter().any(|known| known == *text)).collect();
    assert!(unknown.is_empty(), "no message of pgmove: {unknown:#?}");
}

const SEVERITIES: [&str; 3] = ["blocking", "warning", "note"];

/// Each with its severity, or its severities.
#[test]
fn every_finding_is_explained_and_no_other() {
    let document = read("docs/findings.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let words =
        |cell: &str| SEVERITIES.into_iter().filter(|word| cell.contains(word)).collect::<BTreeSet<_>>();
    let explained: Vec<_> = rows.map(|(id, rest)| (id.to_owned(), words(cell(rest)))).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = calls(&["preflight", "survey"].map(|folder| rust(&root.join(folder))).concat());
    literals(&rust(&root), &mut found);
    assert!(found.len() > 90, "{found:#?}");
    let is_so = |id: &String, severities: &BTreeSet<_>| explained.contains(&(id.clone(), severities.clone()));
    let wrong: Vec<_> = found.iter().filter(|(id, severities)| !is_so(id, severities)).collect();
    assert!(wrong.is_empty(), "not so in docs/findings.md: {wrong:#?}");
    let unknown: Vec<_> = explained.iter().filter(|(id, _)| !found.contains_key(id)).collect();
    assert!(unknown.is_empty(), "no finding of pgmove: {unknown:#?}");
}

type Findings = BTreeMap<String, BTreeSet<&'static str>>;

/// The names of findings with their severities: the first argument of the functions that are called like these.
fn calls(code: &str) -> Findings {
    let mut found = Findings::new();
    for severity in SEVERITIES {
        let name = format!("{severity}(");
        let first = code.split(&name).skip(1).filter_map(|call| call.split(',').next());
        let names = first.flat_map(|argument| argument.split('"').skip(1).step_by(2));
        for name in names.filter(|name| !["source", "target"].contains(name)) {
            found.entry(name.to_owned()).or_default().insert(severity);
        }
    }
    found
}

/// Those that are made without such a function: the field `id`, and the next one.
fn literals(code: &str, found: &mut Findings) {
    for literal in code.split(" id: \"").skip(1) {
        let Some((name, (_, rest))) = literal
            .split_once('"')
            .and_then(|(name, rest)| Some((name, rest.split_once("severity: Severity::")?)))
        else {
            continue;
        };
        let rest = rest.to_lowercase();
        let severity = SEVERITIES.into_iter().find(|word| rest.starts_with(word)).expect("a severity");
        found.entry(name.to_owned()).or_default().insert(severity);
    }
}

/// All Rust code under a folder.
pub(crate) fn rust(folder: &Path) -> String {
    let mut code = String::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            code += &rust(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code += &fs::read_to_string(&path).expect("a file of the repository");
        }
    }
    code
}

//! The documents' own ground: every file and every test that they name is there.

use std::{fs, path::Path};

use crate::support::pgmove;

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/archive.md",
    "docs/containers.md",
    "docs/performance.md",
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

//! The SQL files' own ground: each says the oldest server that it is for, is used, and is understood by that server and
//! every later one.

use std::{fs, path::Path};

use crate::support::{Install, Server};

struct SqlFile {
    /// As code names it: `ledger/read`.
    name: String,
    text: String,
    oldest_server: u32,
}

#[tokio::test]
async fn every_statement_is_understood_by_every_server_it_is_for() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sql"));
    let mut wrong = Vec::new();
    for install in Install::all() {
        let server = Server::shared(install.major);
        let database = server.database();
        let client = database.connect().await;
        let (ledger, others): (Vec<_>, Vec<_>) = files
            .iter()
            .filter(|file| file.oldest_server <= install.major)
            .partition(|file| file.name == "ledger/create");
        for file in ledger {
            // Several statements, which cannot be prepared; the others need what they make.
            client.batch_execute(&file.text).await.expect("the owner may make a ledger");
        }
        for file in others {
            if let Err(error) = client.prepare(&file.text).await {
                let cause = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
                wrong.push(format!("{} on PostgreSQL {}: {cause}", file.name, install.major));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_statement_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = crate::documents::rust(&root.join("src"));
    for file in files(&root.join("sql")) {
        let in_catalog = file.name.strip_prefix("catalog/").map(|name| format!("sql_file!(\"{name}\")"));
        let is_used = code.contains(&format!("sql/{}.sql", file.name))
            || in_catalog.is_some_and(|mention| code.contains(&mention));
        assert!(is_used, "nothing uses sql/{}.sql", file.name);
    }
}

fn files(folder: &Path) -> Vec<SqlFile> {
    let mut found = Vec::new();
    for stage in fs::read_dir(folder).expect("the folder of the SQL") {
        let stage = stage.expect("an entry");
        for file in fs::read_dir(stage.path()).expect("a stage's folder") {
            let path = file.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("a text");
            let stem = path.file_stem().expect("a name").to_string_lossy();
            let name = format!("{}/{stem}", stage.file_name().to_string_lossy());
            let oldest = text.split_once("Oldest server: ").map(|(_, rest)| rest);
            let oldest_server = oldest
                .and_then(|rest| rest.get(..2)?.parse().ok())
                .unwrap_or_else(|| panic!("sql/{name}.sql does not say for which servers it is"));
            found.push(SqlFile { name, text, oldest_server });
        }
    }
    found
}

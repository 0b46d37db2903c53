//! The sample photo library (tests/fixtures/library) in a fresh database, as its ordinary owner would have filled it.

use std::{fs, path::Path, sync::Arc};

use super::{Database, Server};

/// Which form the library's embeddings have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vectors {
    /// pgvecto.rs' type, as an old installation has it.
    Legacy,
    /// pgvector's types, with its indexes.
    Pgvector,
    /// Plain arrays, where there is no extension.
    Array,
}

/// What a library holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library {
    /// How many photos.
    pub(crate) photos: u32,
    /// Of the embeddings.
    pub(crate) dimensions: u32,
    /// Whether the schemas with rare objects are there too.
    pub(crate) has_oddities: bool,
}

/// Small enough for a move within seconds.
pub(crate) const SMALL: Library = Library { photos: 300, dimensions: 16, has_oddities: true };

impl Vectors {
    /// The oldest form that the server knows: what there would be to convert.
    pub(crate) fn of(server: &Server) -> Self {
        if server.offers("vectors") {
            Self::Legacy
        } else if server.offers("vector") {
            Self::Pgvector
        } else {
            Self::Array
        }
    }
}

impl Library {
    /// Fills a fresh database of the server.
    pub(crate) fn fill(self, server: &Arc<Server>, vectors: Vectors) -> Database {
        let database = server.database();
        database.admin_psql(&fixture("extensions.sql"));
        let sizes = format!(
            "SET library.photos = '{}'; SET library.dimensions = '{}';\n",
            self.photos, self.dimensions
        );
        let (columns, indexes) = match vectors {
            Vectors::Legacy => ("vectors-legacy.sql", Some("vectors-legacy-indexes.sql")),
            Vectors::Pgvector => ("vectors-pgvector.sql", Some("vectors-pgvector-indexes.sql")),
            Vectors::Array => ("vectors-array.sql", None),
        };
        let files = [
            Some("schema.sql"),
            Some(columns),
            self.has_oddities.then_some("oddities.sql"),
            Some("fill.sql"),
            indexes,
            server.offers("earthdistance").then_some("contrib.sql"),
            Some("settings.sql"),
        ];
        // A session each: some set what the next must not have.
        for name in files.into_iter().flatten() {
            database.psql(&(sizes.clone() + &fixture(name)));
        }
        database
    }
}

fn fixture(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/library").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

//! The databases that are moved.

use serde::Serialize;

/// One database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Case {
    /// Embeddings of 512 dimensions beside wide rows, plain keys only.
    Library,
    /// Pgbench's tables.
    Relational,
    /// One table of 2 GB in rows of 1 kB.
    Wide,
    /// The library with an HNSW index, whose build takes most of the time whoever moves it.
    LibraryHnsw,
}

impl Case {
    /// Those that are measured if none is named.
    pub(super) const USUAL: [Self; 3] = [Self::Library, Self::Relational, Self::Wide];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Relational => "relational",
            Self::Wide => "wide",
            Self::LibraryHnsw => "library-hnsw",
        }
    }

    /// What the database is, with the unit that `size` counts.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Library => "embeddings of 512 dimensions beside as many rows of 1 kB, plain keys",
            Self::Relational => "as pgbench's scale",
            Self::Wide => "rows of 1 kB in one table",
            Self::LibraryHnsw => {
                "embeddings of 512 dimensions beside as many rows of 1 kB, with an HNSW index"
            }
        }
    }

    pub(super) fn size(self) -> u32 {
        match self {
            Self::Library | Self::LibraryHnsw => 100_000,
            Self::Relational => 50,
            Self::Wide => 2_000_000,
        }
    }

    pub(super) fn quick_size(self) -> u32 {
        match self {
            Self::Library | Self::LibraryHnsw => 2_000,
            Self::Relational => 2,
            Self::Wide => 50_000,
        }
    }

    /// The extension that a superuser creates in source and target; empty for none.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Library | Self::LibraryHnsw => "vector",
            Self::Relational | Self::Wide => "",
        }
    }

    /// The script that fills the source.
    pub(super) fn script(self) -> &'static str {
        match self {
            Self::Library | Self::LibraryHnsw => "cases/library.sh",
            Self::Relational => "cases/relational.sh",
            Self::Wide => "cases/wide.sh",
        }
    }

    /// The script's arguments.
    pub(super) fn arguments(self, size: u32) -> Vec<String> {
        let mut words = vec![size.to_string()];
        if self == Self::LibraryHnsw {
            words.push("with-hnsw".to_owned());
        }
        words
    }
}

//! Who moves the database, and how fast pgmove must be beside them.

use super::case::Case;

/// Lanes of the run whose peak memory is bounded.
pub(super) const PEAK_LANES: u32 = 4;

/// Peak memory of pgmove with [`PEAK_LANES`] lanes, in bytes, for every case.
pub(super) const PEAK_BOUND: u64 = 100 << 20;

/// One way to move a database.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) name: &'static str,
    /// Of tests/images/bench/contestants.
    pub(super) script: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// Goes on in the database of the contestant before it; the time of both counts.
    pub(super) continues: bool,
    /// Leaves an archive, whose size is reported.
    pub(super) archives: bool,
    /// The most that pgmove's time may be of this one's.
    pub(super) bound: Option<f64>,
}

/// Its name in the results.
pub(super) const PGMOVE: &str = "pgmove";

impl Contestant {
    /// Those of a case, in the order of their turns. The archive is only measured where pgmove writes one.
    pub(super) fn all(case: Case, has_archive: bool) -> Vec<Self> {
        let bound = |library, relational| match case {
            Case::Library => Some(library),
            Case::Relational => Some(relational),
            Case::Wide | Case::LibraryHnsw => None,
        };
        let new = |name, script| Self {
            name,
            script,
            arguments: &[],
            continues: false,
            archives: false,
            bound: None,
        };
        let mut all = vec![
            new(PGMOVE, "pgmove.sh"),
            Self { bound: bound(1.0, 1.25), ..new("pgcopydb", "pgcopydb.sh") },
            Self {
                continues: true,
                bound: bound(0.5, 0.95),
                ..new("pgcopydb and its compare", "pgcopydb-compare.sh")
            },
            Self { bound: bound(0.4, 1.05), ..new("pg_dump and pg_restore", "pg_dump.sh") },
            Self { bound: bound(1.3, 1.4), ..new("the limit", "limit.sh") },
        ];
        if has_archive {
            all.push(Self {
                arguments: &["--archive", "/data/work/archive"],
                archives: true,
                ..new("pgmove with an archive", "pgmove.sh")
            });
        }
        all
    }
}

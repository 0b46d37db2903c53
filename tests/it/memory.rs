//! How much memory a move takes.

use crate::support::{Move, Server, leftovers, state};

/// Four tables of 320 rows of 256 KiB each: compressed on the servers, but not on their way.
const SAMPLE: &str = "
SELECT format('CREATE TABLE photo_%s (id integer, body text)', n) FROM generate_series(1, 4) AS n \\gexec
SELECT format($$INSERT INTO photo_%s SELECT n, repeat(md5(n::text), 8192) FROM generate_series(1, 320) AS n$$, n)
FROM generate_series(1, 4) AS n \\gexec
";

/// In KiB. A third of what is moved; most of it is the program itself and what it knows of the catalogs.
const LIMIT: u64 = 100 * 1024;

#[test]
fn memory_does_not_grow_with_the_rows() {
    let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
    source.psql(SAMPLE);
    let archive = tempfile::tempdir().expect("a temporary directory");
    let mut run = Move::new(&source, &target);
    run.options = vec!["--jobs=4".into(), "--accept-writes".into()];
    let (ended, peak) =
        run.start(&["--archive", &archive.path().join("archive").to_string_lossy()]).measure();
    ended.assert(0, &["320 MiB"]);
    assert!((1..LIMIT).contains(&peak), "{peak} KiB");
    assert_eq!(leftovers(&target), "");
    state(&target).assert_equal(&state(&source));
}

//! An archive, written and read back, and every way of damaging one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::file::{FRAME, SAMPLE};
use super::*;
use crate::error::{Class, Fault};
use crate::pg::QualifiedName;
use crate::transfer::digest::Digest;

const ASSET: Member = Member::Chunk { table: 7, chunk: 0 };
const ASSET_TOO: Member = Member::Chunk { table: 7, chunk: 1 };
const OBJECTS: Member = Member::LargeObjects { chunk: 0 };

fn header() -> Header {
    Header {
        pgmove_version: "0.1.0".to_owned(),
        created: jiff::Timestamp::UNIX_EPOCH,
        source: SourceRecord {
            server_version: "15.14".to_owned(),
            encoding: "UTF8".to_owned(),
            database: "immich".to_owned(),
            snapshot: "745:748:745".to_owned(),
        },
    }
}

fn rows(chunks: u32) -> PlannedContent {
    let columns = vec![Column { name: "id".to_owned(), type_name: "uuid".to_owned() }];
    PlannedContent { columns, wire_format: WireFormat::Binary, chunks }
}

fn layout() -> Layout {
    let name = QualifiedName::new("public", "asset");
    Layout { tables: vec![PlannedTable { number: 7, name, content: rows(2) }], large_objects: Some(rows(1)) }
}

fn digest(rows: u64) -> Digest {
    Digest { rows, sums: [u64::MAX, 0, 1, 1 << 63] }
}

/// Bytes that do not shrink: xorshift of Marsaglia (2003).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn put(writer: &Writer, member: Member, content: &[u8]) -> ChunkRecord {
    let mut chunk = writer.chunk(member).await.expect("begins");
    chunk.write(content).await.expect("writes");
    chunk.finish(digest(1)).await.expect("finishes")
}

async fn get(directory: &Path, member: &Member) -> Result<Vec<u8>, ArchiveError> {
    let mut reader = Archive::open(directory)?.read(member)?;
    let mut content = Vec::new();
    while let Some(block) = reader.next().await? {
        content.extend_from_slice(&block);
    }
    Ok(content)
}

/// A small archive, and its directory.
async fn sample() -> (TempDir, PathBuf) {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path().join("dump");
    let writer = Writer::create(&directory, header(), Level::default()).expect("begins");
    put(&writer, ASSET, &b"a row like others. ".repeat(50)).await;
    put(&writer, ASSET_TOO, &noise(950)).await;
    put(&writer, OBJECTS, b"").await;
    writer.attach("schema.sql", b"CREATE TABLE public.asset (id uuid);").await.expect("attaches");
    writer.finish(layout()).expect("finishes");
    (scratch, directory)
}

fn files(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    check::walk(directory, &mut |relative, _| {
        files.push(relative.to_owned());
        Ok(())
    })
    .expect("lists");
    files.sort();
    files
}

/// What a check says: every defect, or the error that kept it from checking.
async fn defects(directory: &Path) -> Vec<String> {
    match check(directory, |_, _| {}).await {
        Ok(check) => check.defects.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

#[tokio::test]
async fn an_archive_is_read_as_it_was_written() {
    let (_scratch, directory) = sample().await;
    assert_eq!(get(&directory, &ASSET).await.expect("reads"), b"a row like others. ".repeat(50));
    assert_eq!(get(&directory, &ASSET_TOO).await.expect("reads"), noise(950));
    assert_eq!(get(&directory, &OBJECTS).await.expect("reads"), b"");
    let archive = Archive::open(&directory).expect("opens");
    assert_eq!(archive.manifest().header, header());
    let chunks = &archive.manifest().tables[0].content.chunks;
    assert_eq!(chunks[0].digest, digest(1));
    assert_eq!(chunks[0].file.compression, Compression::Zstd(1));
    assert_eq!(chunks[1].file.compression, Compression::Stored);
    let ddl = archive.attachment("schema.sql", 100).await.expect("reads");
    assert_eq!(ddl, b"CREATE TABLE public.asset (id uuid);");
    archive.attachment("schema.sql", 10).await.expect_err("longer than the caller allows");

    let found = check(&directory, |_, _| {}).await.expect("checks");
    assert!(found.defects.is_empty(), "{:?}", found.defects);
    assert_eq!((found.files, found.content_bytes), (4, 950 + 950 + 36));
    let expected = [
        "attachments/schema.sql.zst",
        "data/7/0.zst",
        "data/7/1.zst",
        "large-objects/0.zst",
        "manifest.json",
        "manifest.sha256",
    ];
    assert_eq!(files(&directory), expected);
    for file in expected {
        let mode = fs::metadata(directory.join(file)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    for folder in ["", "data", "data/7", "attachments"] {
        let mode = fs::metadata(directory.join(folder)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn an_archive_that_is_taken_back_leaves_the_directory_that_was_there() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (own, theirs) = (scratch.path().join("own"), scratch.path().join("theirs"));
    fs::create_dir(&theirs).expect("made");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o750)).expect("allowed");
    for directory in [&own, &theirs] {
        Writer::create(directory, header(), Level::default()).expect("begins").discard();
    }
    assert!(!own.exists());
    assert_eq!(fs::metadata(&theirs).expect("is there").permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::read_dir(&theirs).expect("a directory").count(), 0);
}

#[tokio::test]
async fn several_frames_and_several_lanes() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path().join("dump");
    let writer = Writer::create(&directory, header(), Level::default()).expect("begins");
    let (text, random) = (b"0123456789abcdefghij\n".repeat(FRAME / 20), noise(FRAME + SAMPLE + 1));
    tokio::join!(
        put(&writer, ASSET, &text),
        put(&writer, ASSET_TOO, &random),
        put(&writer, OBJECTS, &random[..SAMPLE])
    );
    let manifest = writer.finish(layout()).expect("finishes");
    let stored = &manifest.tables[0].content.chunks[1].file;
    assert_eq!(stored.compression, Compression::Stored);
    assert!(stored.file_bytes < stored.content_bytes + 1000, "raw blocks cost next to nothing");
    assert!(get(&directory, &ASSET).await.expect("reads") == text);
    assert!(get(&directory, &ASSET_TOO).await.expect("reads") == random);
    assert!(get(&directory, &OBJECTS).await.expect("reads") == random[..SAMPLE]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_content_in_any_blocks_comes_back(
        pieces in prop::collection::vec((any::<bool>(), 0_usize..300_000), 0..4)
    ) {
        Runtime::new().expect("a runtime").block_on(async {
            let scratch = tempfile::tempdir().expect("a directory");
            let writer = Writer::create(scratch.path(), header(), Level::default()).expect("begins");
            let mut chunk = writer.chunk(ASSET).await.expect("begins");
            let mut content = Vec::new();
            for (is_random, length) in pieces {
                let piece = if is_random { noise(length) } else { vec![b'x'; length] };
                chunk.write(&piece).await.expect("writes");
                content.extend_from_slice(&piece);
            }
            chunk.finish(digest(0)).await.expect("finishes");
            let table = PlannedTable { number: 7, name: QualifiedName::new("a", "b"), content: rows(1) };
            writer.finish(Layout { tables: vec![table], large_objects: None }).expect("finishes");
            assert!(get(scratch.path(), &ASSET).await.expect("reads") == content);
        });
    }
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_is_found() {
    let (_scratch, directory) = sample().await;
    for file in files(&directory) {
        let path = directory.join(&file);
        let whole = fs::read(&path).expect("reads");
        for place in (0..whole.len()).step_by(if file.ends_with("json") { 7 } else { 3 }) {
            let mut flipped = whole.clone();
            flipped[place] ^= 1 << (place % 8);
            fs::write(&path, &flipped).expect("writes");
            let found = defects(&directory).await;
            assert!(
                found.len() == 1 && found[0].contains("manifest") | found[0].contains(&file),
                "{file} {place}: {found:?}"
            );
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("writes");
            let found = defects(&directory).await;
            assert!(found.len() == 1 && found[0].contains(&file), "{file} cut at {length}: {found:?}");
        }
        fs::write(&path, &whole).expect("writes");
        assert!(defects(&directory).await.is_empty());
    }
}

#[tokio::test]
async fn swapped_missing_and_foreign_files_are_named() {
    let (scratch, directory) = sample().await;
    let [one, two] = ["data/7/0.zst", "data/7/1.zst"].map(|name| directory.join(name));
    let (first, second) = (fs::read(&one).expect("reads"), fs::read(&two).expect("reads"));
    fs::write(&one, &second).expect("writes");
    fs::write(&two, &first).expect("writes");
    let found = defects(&directory).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("data/7/0.zst (public.asset, chunk 0) is damaged: it has 965 bytes instead of")
    );

    fs::write(&one, &first).expect("writes");
    fs::remove_file(&two).expect("removes");
    assert_eq!(defects(&directory).await, ["data/7/1.zst (public.asset, chunk 1) is damaged: it is missing"]);

    // The right bytes, but outside the archive.
    let outside = scratch.path().join("outside");
    fs::write(&outside, &second).expect("writes");
    symlink(&outside, &two).expect("links");
    let found = get(&directory, &ASSET_TOO).await.expect_err("a link");
    assert_eq!(
        found.to_string(),
        "data/7/1.zst (public.asset, chunk 1) is damaged: it is not a regular file"
    );
    assert_eq!(found.class(), Class::Integrity);
    fs::remove_file(&two).expect("removes");
    fs::write(&two, &second).expect("writes");
    fs::rename(directory.join("data/7"), scratch.path().join("7")).expect("moves");
    symlink(scratch.path().join("7"), directory.join("data/7")).expect("links");
    get(&directory, &ASSET).await.expect_err("a link above the file");
    fs::remove_file(directory.join("data/7")).expect("removes");
    fs::rename(scratch.path().join("7"), directory.join("data/7")).expect("moves");

    fs::write(directory.join("data/note"), "").expect("writes");
    fs::create_dir_all(directory.join("data/7/deep/er")).expect("creates");
    let mut found = defects(&directory).await;
    found.sort();
    assert_eq!(
        found,
        ["data/7/deep does not belong to the archive", "data/note does not belong to the archive"]
    );
}

#[tokio::test]
async fn swapped_files_of_one_size_are_told_by_their_hash() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path();
    let writer = Writer::create(directory, header(), Level::default()).expect("begins");
    let random = noise(2000);
    put(&writer, ASSET, &random[..1000]).await;
    put(&writer, ASSET_TOO, &random[1000..]).await;
    writer.finish(Layout { large_objects: None, ..layout() }).expect("finishes");
    let [one, two, aside] = ["data/7/0.zst", "data/7/1.zst", "aside"].map(|name| directory.join(name));
    fs::rename(&one, &aside).expect("moves");
    fs::rename(&two, &one).expect("moves");
    fs::rename(&aside, &two).expect("moves");
    let expected = [0, 1].map(|chunk| {
        format!(
            "data/7/{chunk}.zst (public.asset, chunk {chunk}) is damaged: its SHA-256 is not the one in the manifest"
        )
    });
    assert_eq!(defects(directory).await, expected);
}

/// Writes a manifest whose checksum holds, as only somebody who means it does.
fn forge(directory: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    use sha2::{Digest, Sha256};
    let path = directory.join("manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&path).expect("reads")).expect("is JSON");
    edit(&mut manifest);
    let json = serde_json::to_vec(&manifest).expect("is JSON");
    fs::write(&path, &json).expect("writes");
    let sum = format::manifest_sum(&file::hexadecimal(&Sha256::digest(&json)));
    fs::write(directory.join("manifest.sha256"), sum).expect("writes");
}

#[tokio::test]
async fn forged_manifests_are_refused() {
    type Edit = fn(&mut serde_json::Value);
    let cases: [(Edit, &str); 8] = [
        (|m| m["version"] = 2.into(), "format version 2"),
        (|m| m["version"] = 0.into(), "no format version 0"),
        (|m| m["format"] = "tar".into(), "not \"pgmove archive\""),
        (|m| m["surprise"] = true.into(), "unknown field `surprise`"),
        (|m| m["attachments"][0]["name"] = "../../etc/passwd".into(), "no name of an attachment"),
        (|m| m["attachments"][0]["name"] = "/etc/passwd".into(), "no name of an attachment"),
        (|m| m["tables"] = serde_json::json!([m["tables"][0], m["tables"][0]]), "does not follow"),
        (
            |m| {
                m["tables"][0]["content"]["chunks"][0]["digest"]["sums"] =
                    "+00000000000000f".repeat(4).into();
            },
            "64 hexadecimal digits",
        ),
    ];
    for (edit, message) in cases {
        let (_scratch, directory) = sample().await;
        forge(&directory, edit);
        let error = Archive::open(&directory).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
    // A newer format is told as such even where its other files follow other rules.
    let (_scratch, directory) = sample().await;
    forge(&directory, |manifest| manifest["version"] = 2.into());
    fs::write(directory.join("manifest.sha256"), "?").expect("writes");
    assert!(matches!(Archive::open(&directory), Err(ArchiveError::Newer(2))));
}

#[tokio::test]
async fn a_bomb_stops_at_the_size_that_was_announced() {
    let (_scratch, directory) = sample().await;
    forge(&directory, |manifest| {
        manifest["tables"][0]["content"]["chunks"][0]["file"]["content_bytes"] = 10.into();
    });
    let error = get(&directory, &ASSET).await.expect_err("longer").to_string();
    assert!(error.ends_with("its content has more than 10 bytes"), "{error}");

    let (_scratch, directory) = sample().await;
    fs::File::create(directory.join("manifest.json")).expect("creates").set_len(1 << 40).expect("is sparse");
    let error = Archive::open(&directory).expect_err("too large").to_string();
    assert_eq!(error, format!("manifest.json is damaged: it has more than {} bytes", format::MANIFEST_LIMIT));
    fs::write(directory.join("manifest.json"), "[".repeat(1 << 20)).expect("writes");
    Archive::open(&directory).expect_err("too deep");
}

#[tokio::test]
async fn an_unfinished_archive_is_refused_and_can_be_resumed() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path();
    let writer = Writer::create(directory, header(), Level::default()).expect("begins");
    put(&writer, ASSET, b"first").await;
    put(&writer, OBJECTS, b"lost").await;
    put(&writer, ASSET_TOO, b"again").await;
    // Killed while a chunk was being written anew, with half a line in the journal.
    std::mem::forget(writer.chunk(ASSET_TOO).await.expect("begins"));
    drop(writer);
    fs::remove_file(directory.join("large-objects/0.zst")).expect("removes");
    let journal = directory.join("journal.jsonl");
    fs::write(&journal, [&fs::read(&journal).expect("reads")[..], b"{\"member"].concat()).expect("writes");

    assert!(matches!(Archive::open(directory), Err(ArchiveError::Unfinished(_))));
    assert!(matches!(Writer::create(directory, header(), Level::default()), Err(ArchiveError::NotEmpty(_))));
    let writer = Writer::resume(directory, Level::default()).expect("resumes");
    assert_eq!(writer.header(), &header());
    assert_eq!(writer.done(&ASSET).map(|record| record.digest), Some(digest(1)));
    assert_eq!((writer.done(&ASSET_TOO), writer.done(&OBJECTS)), (None, None));
    assert!(!directory.join("data/7/1.zst.part").exists());
    let missing = writer.finish(layout()).expect_err("two are missing").to_string();
    assert_eq!(missing, "the archive cannot be finished: data/7/1.zst was not written");
    put(&writer, OBJECTS, b"found").await;
    put(&writer, ASSET_TOO, b"again").await;
    writer.finish(layout()).expect("finishes");
    assert!(defects(directory).await.is_empty());
    assert_eq!(get(directory, &OBJECTS).await.expect("reads"), b"found");
    assert!(matches!(Writer::resume(directory, Level::default()), Err(ArchiveError::Finished(_))));
    let empty = tempfile::tempdir().expect("a directory");
    assert!(matches!(Writer::resume(empty.path(), Level::default()), Err(ArchiveError::NothingToResume(_))));
}

#[tokio::test]
async fn a_chunk_that_is_aborted_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let writer = Writer::create(scratch.path(), header(), Level::default()).expect("begins");
    let mut chunk = writer.chunk(ASSET).await.expect("begins");
    chunk.write(&noise(1 << 20)).await.expect("writes");
    writer.chunk(ASSET).await.expect_err("it is being written");
    drop(chunk);
    assert_eq!(files(scratch.path()), ["journal.jsonl"]);
    put(&writer, ASSET, b"again").await;
    put(&writer, ASSET_TOO, b"").await;
    put(&writer, OBJECTS, b"").await;
    put(&writer, Member::Chunk { table: 8, chunk: 0 }, b"in no plan").await;
    let error = writer.finish(layout()).expect_err("one too many").to_string();
    assert_eq!(error, "the archive cannot be finished: data/8/0.zst is in no plan");
    for name in ["", ".hidden", "a/b", "..", "a b"] {
        assert!(matches!(writer.attach(name, b"").await, Err(ArchiveError::BadName(_))), "{name}");
    }
}

#[tokio::test]
async fn a_writer_does_not_follow_links() {
    let (scratch, outside) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let writer = Writer::create(scratch.path(), header(), Level::default()).expect("begins");
    symlink(outside.path(), scratch.path().join("data")).expect("links");
    writer.chunk(ASSET).await.expect_err("a link");
    assert_eq!(fs::read_dir(outside.path()).expect("lists").count(), 0);
}

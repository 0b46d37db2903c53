//! Large objects of both sides: which there are, their contents, owners, rights and comments.
//!
//! Read a page at a time, in the order of their OIDs, which a move keeps. Contents are hashed by their server,
//! a piece of each object of a page in one question, so that neither a large object nor many of them need
//! memory here. An archive can stand in the source's place: a page of it is one of its chunks.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::Oid as RawOid;

use crate::pg::{Session, SessionError, describe};
use crate::transfer::archive::{self, Archive, ArchiveError, Defect, Member, WireFormat};
use crate::transfer::lane::large_object::{Description, attachment};
use crate::transfer::large_object::Piece;
use crate::transfer::relay::{HEADER, RelayError, TRAILER};
use crate::verify::rights::{self, Holder};
use crate::verify::{Aspect, Comparison, Outcome, VerifyError, is_passing};

/// Large objects of a page.
const PAGE: i64 = 200;

/// How much of an object is hashed by one question, in bytes.
const PIECE: i32 = 4 * 1024 * 1024;

/// By default the owner may read and write, and nobody else may anything.
const DEFAULT_RIGHTS: (&str, &str) = ("rw", "");

/// One large object, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LargeObject {
    owner: String,
    acl: Option<Vec<String>>,
    comment: Option<String>,
    hash: [u8; 32],
}

type Page = BTreeMap<RawOid, LargeObject>;

/// Where large objects are.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// On a server, which a session asks in a snapshot.
    Server(&'a Session),
    /// In an archive.
    Archive(&'a Archive),
}

/// Compares all large objects. The sessions are those of the source and of the target, each in a snapshot.
/// `owner` is the role that was to get everything, `roles` are the target's. At most `limit` are named.
pub async fn compare(
    sessions: [&Session; 2],
    owner: Option<&str>,
    roles: &BTreeSet<String>,
    limit: usize,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    compare_places(sessions.map(Place::Server), owner, roles, limit, comparison).await
}

/// The same for a source and a target that may be archives.
pub async fn compare_places(
    places: [Place<'_>; 2],
    owner: Option<&str>,
    roles: &BTreeSet<String>,
    limit: usize,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let outcome = match findings(places, owner, roles).await {
        Ok(findings) => findings.outcome(limit),
        Err(error) if is_passing(&error) => return Err(error),
        Err(VerifyError::Session(SessionError::Statement { side, error, .. })) if error.code().is_some() => {
            Outcome::not_compared(format!("could not be read on the {side}: {}", describe(&error)))
        }
        Err(error) => return Err(error),
    };
    comparison.push("large objects", Aspect::LargeObjects, outcome);
    Ok(())
}

#[derive(Debug, Default)]
struct Findings {
    counts: [u64; 2],
    different: Vec<String>,
    planned: BTreeSet<String>,
}

impl Findings {
    fn outcome(mut self, limit: usize) -> Outcome {
        if self.different.is_empty() {
            if self.planned.is_empty() {
                return Outcome::Equal;
            }
            return Outcome::as_planned(self.planned.into_iter().collect::<Vec<_>>().join("; "));
        }
        let [source, target] = self.counts;
        let detail =
            format!("{source} on the source, {target} on the target; {} differ", self.different.len());
        self.different.truncate(limit);
        Outcome::Different { detail, rows: self.different }
    }

    fn compare(
        &mut self,
        oid: RawOid,
        source: Option<&LargeObject>,
        target: Option<&LargeObject>,
        owner: Option<&str>,
        roles: &BTreeSet<String>,
    ) {
        let (source, target) = match (source, target) {
            (Some(source), Some(target)) => (source, target),
            (source, _) => {
                let side = if source.is_some() { "source" } else { "target" };
                return self.different.push(format!("{oid}: only on the {side}"));
            }
        };
        if source.hash != target.hash {
            self.different.push(format!("{oid}: other contents"));
        }
        if source.comment != target.comment {
            self.different.push(format!("{oid}: another comment"));
        }
        let found = rights::compare(source.holder(), target.holder(), DEFAULT_RIGHTS, owner, roles);
        self.different.extend(found.unexpected.into_iter().map(|detail| format!("{oid}: {detail}")));
        self.planned.extend(found.planned);
    }
}

impl LargeObject {
    fn holder(&self) -> Holder<'_> {
        Holder { owner: &self.owner, acl: self.acl.as_deref() }
    }
}

async fn findings(
    places: [Place<'_>; 2],
    owner: Option<&str>,
    roles: &BTreeSet<String>,
) -> Result<Findings, VerifyError> {
    let mut findings = Findings::default();
    let mut readers =
        places.map(|place| Reader { place, page: Page::new(), pages: 0, after: 0, is_done: false });
    loop {
        for (reader, count) in readers.iter_mut().zip(&mut findings.counts) {
            *count += reader.fill().await?;
        }
        // What lies behind the end of a page that is not the last may be on the next.
        let end = readers.iter().filter(|reader| !reader.is_done).map(|reader| reader.after).min();
        let [ours, theirs] = &mut readers;
        let oids: BTreeSet<RawOid> = ours.page.keys().chain(theirs.page.keys()).copied().collect();
        for oid in oids.into_iter().filter(|oid| end.is_none_or(|end| *oid <= end)) {
            let (source, target) = (ours.page.remove(&oid), theirs.page.remove(&oid));
            findings.compare(oid, source.as_ref(), target.as_ref(), owner, roles);
        }
        if end.is_none() {
            return Ok(findings);
        }
    }
}

struct Reader<'a> {
    place: Place<'a>,
    page: Page,
    /// How many pages were read.
    pages: u32,
    after: RawOid,
    is_done: bool,
}

impl Reader<'_> {
    /// Reads the next page, if all of the last one has been compared; returns how many objects are on it.
    async fn fill(&mut self) -> Result<u64, VerifyError> {
        if self.is_done || !self.page.is_empty() {
            return Ok(0);
        }
        self.page = match self.place {
            Place::Server(session) => page_of_server(session, self.after).await?,
            Place::Archive(archive) => page_of_archive(archive, self.pages).await?,
        };
        self.pages += 1;
        self.after = self.page.last_key_value().map_or(self.after, |(oid, _)| *oid);
        self.is_done = self.page.is_empty();
        Ok(self.page.len() as u64)
    }
}

async fn page_of_server(session: &Session, after: RawOid) -> Result<Page, SessionError> {
    let rows = session
        .client
        .query(include_str!("../../sql/verify/large_objects.sql"), &[&after, &PAGE])
        .await
        .map_err(|error| session.failed("list large objects", error))?;
    let oids: Vec<RawOid> = rows.iter().map(|row| row.get("oid")).collect();
    let hashes = hashes(session, &oids).await?;
    let object = |(row, oid): (&Row, RawOid)| {
        let object = LargeObject {
            owner: row.get("owner"),
            acl: row.get("acl"),
            comment: row.get("comment"),
            hash: hashes[&oid],
        };
        (oid, object)
    };
    Ok(rows.iter().zip(oids).map(object).collect())
}

/// A chunk of an archive; empty behind the last.
async fn page_of_archive(archive: &Archive, chunk: u32) -> Result<Page, ArchiveError> {
    let member = Member::LargeObjects { chunk };
    if archive.manifest().chunk(&member).is_none() {
        return Ok(Page::new());
    }
    let mut contents: BTreeMap<RawOid, Contents> = BTreeMap::new();
    let damaged = |error: RelayError| match error {
        RelayError::Archive(error) => error,
        other => archive.damaged(&member, Defect::Rows(other.to_string())),
    };
    let mut rows = std::pin::pin!(archive::rows(archive.read(&member)?, WireFormat::Binary));
    while let Some(row) = rows.try_next().await.map_err(damaged)? {
        if row != HEADER && row != TRAILER {
            let piece = Piece::parse(&row).map_err(|source| damaged(RelayError::Row { row: 0, source }))?;
            contents.entry(piece.oid).or_default().add(piece.bytes);
        }
    }
    let name = attachment(chunk as usize);
    let described: Vec<Description> = archive.document(&name).await?;
    let object = |found: Description| {
        let Description { oid, owner, acl, comment } = found;
        let hash = contents.remove(&oid)?.hash();
        Some((oid, LargeObject { owner, acl, comment, hash }))
    };
    let page: Option<Page> = described.into_iter().map(object).collect();
    page.filter(|_| contents.is_empty()).ok_or_else(|| {
        let defect = Defect::Document(format!("its objects are not those of {}", member.path()));
        archive.damaged(&Member::Attachment { name }, defect)
    })
}

/// The contents of one object as they come, for the hash that [`hashes`] has a server compute.
#[derive(Debug, Default)]
struct Contents {
    object: Sha256,
    piece: Sha256,
    length: i32,
}

impl Contents {
    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(PIECE - self.length).expect("a piece is never overfull");
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.piece.update(now);
            self.length += i32::try_from(now.len()).expect("no longer than a piece");
            if self.length == PIECE {
                self.end_piece();
            }
            bytes = later;
        }
    }

    fn end_piece(&mut self) {
        self.object.update(self.length.to_be_bytes());
        self.object.update(self.piece.finalize_reset());
        self.length = 0;
    }

    fn hash(mut self) -> [u8; 32] {
        if self.length > 0 {
            self.end_piece();
        }
        self.object.finalize().into()
    }
}

/// The hash of each object: the SHA-256 of its pieces' lengths and hashes.
async fn hashes(session: &Session, oids: &[RawOid]) -> Result<BTreeMap<RawOid, [u8; 32]>, SessionError> {
    let mut hashers: BTreeMap<RawOid, Sha256> = oids.iter().map(|oid| (*oid, Sha256::new())).collect();
    let mut unfinished = oids.to_vec();
    let mut offset: i64 = 0;
    while !unfinished.is_empty() {
        let rows = session
            .client
            .query(include_str!("../../sql/verify/large_object_pieces.sql"), &[&unfinished, &offset, &PIECE])
            .await
            .map_err(|error| session.failed("read large objects", error))?;
        unfinished.clear();
        for row in rows {
            let (oid, length): (RawOid, i32) = (row.get("oid"), row.get("length"));
            if let Some(hasher) = hashers.get_mut(&oid).filter(|_| length > 0) {
                hasher.update(length.to_be_bytes());
                hasher.update(row.get::<_, &[u8]>("hash"));
            }
            if length == PIECE {
                unfinished.push(oid);
            }
        }
        offset += i64::from(PIECE);
    }
    Ok(hashers.into_iter().map(|(oid, hasher)| (oid, hasher.finalize().into())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_hash_alike_however_they_are_cut() {
        let piece = usize::try_from(PIECE).expect("positive");
        let bytes: Vec<u8> = (0_u8..=250).cycle().take(2 * piece + 3).collect();
        for length in [0, 1, piece, bytes.len()] {
            let bytes = &bytes[..length];
            // As the server's pieces are put together.
            let mut expected = Sha256::new();
            for piece in bytes.chunks(piece) {
                expected.update(i32::try_from(piece.len()).expect("small").to_be_bytes());
                expected.update(Sha256::digest(piece));
            }
            let expected: [u8; 32] = expected.finalize().into();
            for cut in [1024 * 1024, 1_000_003, 2 * piece] {
                let mut contents = Contents::default();
                bytes.chunks(cut).for_each(|bytes| contents.add(bytes));
                assert_eq!(contents.hash(), expected, "{length} bytes in pieces of {cut}");
            }
        }
    }
}

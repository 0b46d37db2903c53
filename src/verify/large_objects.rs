//! Large objects of both sides: which there are, their contents, owners, rights and comments.
//!
//! Read a page at a time, in the order of their OIDs, which a move keeps. Contents are hashed by their server,
//! a piece of each object of a page in one question, so that neither a large object nor many of them need
//! memory here.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use tokio_postgres::types::Oid as RawOid;

use crate::pg::{Session, SessionError, describe};
use crate::verify::rights::{self, Holder};
use crate::verify::{Aspect, Comparison, Outcome, VerifyError};

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

/// Compares all large objects. The sessions are those of the source and of the target, each in a snapshot.
/// `owner` is the role that was to get everything, `roles` are the target's. At most `limit` are named.
pub async fn compare(
    sessions: [&Session; 2],
    owner: Option<&str>,
    roles: &BTreeSet<String>,
    limit: usize,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let outcome = match findings(sessions, owner, roles).await {
        Ok(findings) => findings.outcome(limit),
        Err(SessionError::Statement { side, error, .. }) if error.code().is_some() => {
            Outcome::not_compared(format!("could not be read on the {side}: {}", describe(&error)))
        }
        Err(error) => return Err(error.into()),
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
    sessions: [&Session; 2],
    owner: Option<&str>,
    roles: &BTreeSet<String>,
) -> Result<Findings, SessionError> {
    let mut findings = Findings::default();
    let mut readers = sessions.map(|session| Reader { session, page: Page::new(), after: 0, is_done: false });
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
    session: &'a Session,
    page: Page,
    after: RawOid,
    is_done: bool,
}

impl Reader<'_> {
    /// Reads the next page, if all of the last one has been compared; returns how many objects are on it.
    async fn fill(&mut self) -> Result<u64, SessionError> {
        if self.is_done || !self.page.is_empty() {
            return Ok(0);
        }
        let session = self.session;
        let rows = session
            .client
            .query(include_str!("../../sql/verify/large_objects.sql"), &[&self.after, &PAGE])
            .await
            .map_err(|error| session.failed("list large objects", error))?;
        let oids: Vec<RawOid> = rows.iter().map(|row| row.get("oid")).collect();
        let hashes = hashes(session, &oids).await?;
        self.after = oids.last().copied().unwrap_or(self.after);
        self.is_done = rows.is_empty();
        for (row, oid) in rows.iter().zip(oids) {
            self.page.insert(
                oid,
                LargeObject {
                    owner: row.get("owner"),
                    acl: row.get("acl"),
                    comment: row.get("comment"),
                    hash: hashes[&oid],
                },
            );
        }
        Ok(rows.len() as u64)
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

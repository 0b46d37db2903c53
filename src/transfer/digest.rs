//! The digest of a set of rows: a count and an order-free checksum.
//!
//! A row's bytes are its columns in the plan's order, each as in COPY BINARY: the length as a big-endian
//! int32 (-1 for NULL), then the bytes of the type's send function
//! (<https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format"). A row's hash is the SHA-256 of
//! these bytes, cut into four big-endian 64-bit lanes; a digest is the number of rows and the sum of each
//! lane modulo 2^64. It needs neither an order nor a key, sees duplicates, and digests of disjoint chunks add
//! up to the table's.
//!
//! Array values of user-defined element types carry the element's OID in their header, which differs between
//! servers that hold equal values: it is hashed as zero ([`Digester::masking`]).

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Row count and checksum of a set of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    /// The sums of the four lanes, modulo 2^64.
    #[serde(serialize_with = "sums_to_hex", deserialize_with = "sums_from_hex")]
    pub sums: [u64; 4],
}

impl Digest {
    /// Adds one row, given the SHA-256 of its bytes.
    fn add_hash(&mut self, hash: &[u8; 32]) {
        self.rows += 1;
        for (sum, lane) in self.sums.iter_mut().zip(hash.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*lane));
        }
    }

    /// The checksum as 64 hexadecimal digits, lane by lane.
    pub fn checksum(&self) -> String {
        let [a, b, c, d] = self.sums;
        format!("{a:016x}{b:016x}{c:016x}{d:016x}")
    }

    /// The digest with this count and the checksum that [`Digest::checksum`] wrote; `None` if it is not one.
    pub fn parse(rows: u64, checksum: &str) -> Option<Digest> {
        if checksum.len() != 64 || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut sums = [0; 4];
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = u64::from_str_radix(&checksum[index * 16..(index + 1) * 16], 16).ok()?;
        }
        Some(Digest { rows, sums })
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Digest) {
        self.rows += other.rows;
        for (sum, further) in self.sums.iter_mut().zip(other.sums) {
            *sum = sum.wrapping_add(further);
        }
    }
}

impl Add for Digest {
    type Output = Digest;

    fn add(mut self, other: Digest) -> Digest {
        self += other;
        self
    }
}

impl std::iter::Sum for Digest {
    fn sum<I: Iterator<Item = Digest>>(digests: I) -> Digest {
        digests.fold(Digest::default(), Add::add)
    }
}

fn sums_to_hex<S: Serializer>(sums: &[u64; 4], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Digest { rows: 0, sums: *sums }.checksum())
}

fn sums_from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u64; 4], D::Error> {
    let text = String::deserialize(deserializer)?;
    Digest::parse(0, &text)
        .map(|digest| digest.sums)
        .ok_or_else(|| serde::de::Error::custom("a checksum is 64 hexadecimal digits"))
}

/// What is wrong with a row of a COPY BINARY stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The message is shorter than its own lengths say, or longer.
    #[error("a row's fields do not end where its message ends")]
    Framing,
    /// The server sent another number of columns than were asked for.
    #[error("a row has {found} columns, expected {expected}")]
    Columns {
        /// In the message.
        found: i16,
        /// In the plan.
        expected: usize,
    },
}

/// One field of a row: `None` is NULL.
type Field<'a> = Option<&'a [u8]>;

/// Cuts the first row off rows of COPY BINARY: after the int16 field count, each field is an int32 length and that
/// many bytes.
pub(crate) fn first_row(rows: &[u8], columns: usize) -> Result<(&[u8], &[u8]), RowError> {
    let (count, mut rest) = rows.split_first_chunk::<2>().ok_or(RowError::Framing)?;
    let found = i16::from_be_bytes(*count);
    if usize::try_from(found) != Ok(columns) {
        return Err(RowError::Columns { found, expected: columns });
    }
    for _ in 0..columns {
        (_, rest) = take_field(rest).ok_or(RowError::Framing)?;
    }
    Ok(rows.split_at(rows.len() - rest.len()))
}

/// Cuts the fields out of a row of COPY BINARY.
pub(crate) fn fields(row: &[u8], columns: usize) -> Result<impl Iterator<Item = Field<'_>>, RowError> {
    // Walk once to check, so that the iterator cannot fail.
    let (_, after) = first_row(row, columns)?;
    if !after.is_empty() {
        return Err(RowError::Framing);
    }
    let mut rest = &row[2..];
    Ok((0..columns).map_while(move |_| {
        let (field, after) = take_field(rest)?;
        rest = after;
        Some(field)
    }))
}

fn take_field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 => Some((None, rest)),
        length => {
            let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(value), rest))
        }
    }
}

/// Where an array's header holds the element type's OID: after the number of dimensions and the flags
/// (`array_send` in `utils/adt/arrayfuncs.c`).
const ELEMENT_OID: std::ops::Range<usize> = 8..12;

/// Adds rows to a digest.
#[derive(Debug, Clone)]
pub struct Digester {
    columns: usize,
    /// By column: whether its array header's element OID is hashed as zero. Empty if none is.
    masked: Vec<bool>,
    digest: Digest,
}

impl Digester {
    /// A digester for rows of `columns` columns.
    pub fn new(columns: usize) -> Self {
        Digester { columns, masked: Vec::new(), digest: Digest::default() }
    }

    /// Hashes the element OID of these columns (by position) as zero.
    #[must_use]
    pub fn masking(mut self, columns: &[usize]) -> Self {
        if !columns.is_empty() {
            self.masked = (0..self.columns).map(|column| columns.contains(&column)).collect();
        }
        self
    }

    /// Adds one row in the form of COPY BINARY, field count first.
    pub fn row(&mut self, row: &[u8]) -> Result<(), RowError> {
        let fields = fields(row, self.columns)?;
        if self.masked.is_empty() {
            self.digest.add_hash(&Sha256::digest(&row[2..]).into());
            return Ok(());
        }
        let mut hasher = Sha256::new();
        for (field, is_masked) in fields.zip(&self.masked) {
            match field {
                None => hasher.update((-1_i32).to_be_bytes()),
                Some(value) => {
                    let length = i32::try_from(value.len()).map_err(|_| RowError::Framing)?;
                    hasher.update(length.to_be_bytes());
                    if *is_masked && value.len() >= ELEMENT_OID.end {
                        hasher.update(&value[..ELEMENT_OID.start]);
                        hasher.update([0; 4]);
                        hasher.update(&value[ELEMENT_OID.end..]);
                    } else {
                        hasher.update(value);
                    }
                }
            }
        }
        self.digest.add_hash(&hasher.finalize().into());
        Ok(())
    }

    /// The digest of the rows so far.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(fields: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut bytes = i16::try_from(fields.len()).expect("few columns").to_be_bytes().to_vec();
        for field in fields {
            match field {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend(i32::try_from(value.len()).expect("short").to_be_bytes());
                    bytes.extend(value);
                }
            }
        }
        bytes
    }

    fn digest_of(rows: &[Vec<Option<Vec<u8>>>]) -> Digest {
        let mut digester = Digester::new(2);
        for fields in rows {
            digester.row(&row(fields)).expect("well formed");
        }
        digester.digest()
    }

    #[test]
    fn a_known_row_has_the_sha256_of_its_bytes() {
        // echo -n '\x00000001 61 ffffffff' | sha256sum
        let digest = digest_of(&[vec![Some(b"a".to_vec()), None]]);
        let hash: [u8; 32] = Sha256::digest([0, 0, 0, 1, b'a', 255, 255, 255, 255]).into();
        assert_eq!(Digest::parse(1, &digest.checksum()), Some(digest));
        assert_eq!(digest.sums[0].to_be_bytes(), hash[..8]);
        assert_eq!(digest.sums[3].to_be_bytes(), hash[24..]);
    }

    #[test]
    fn null_and_empty_differ_and_so_do_duplicates() {
        let null = vec![None, None];
        let empty = vec![Some(vec![]), None];
        assert_ne!(digest_of(std::slice::from_ref(&null)), digest_of(std::slice::from_ref(&empty)));
        assert_ne!(digest_of(std::slice::from_ref(&null)), digest_of(&[null.clone(), null.clone()]));
        // A pair of equal rows does not cancel, as it would in an XOR.
        assert_ne!(digest_of(&[null.clone(), null, empty.clone()]), digest_of(&[empty]));
    }

    #[test]
    fn a_masked_element_oid_does_not_count() {
        let array = |oid: u32| [&[0, 0, 0, 1, 0, 0, 0, 0][..], &oid.to_be_bytes(), &[0, 0, 0, 0]].concat();
        let digest = |oid, masked: &[usize]| {
            let mut digester = Digester::new(1).masking(masked);
            digester.row(&row(&[Some(array(oid))])).expect("well formed");
            digester.digest()
        };
        assert_eq!(digest(20_001, &[0]), digest(31_415, &[0]));
        assert_ne!(digest(20_001, &[]), digest(31_415, &[]));
        assert_ne!(digest(20_001, &[0]), digest(20_001, &[]));
    }

    #[test]
    fn wrong_framing_is_refused() {
        let mut digester = Digester::new(2);
        let good = row(&[Some(b"abc".to_vec()), None]);
        assert_eq!(digester.row(&good[..good.len() - 1]), Err(RowError::Framing));
        assert_eq!(digester.row(&[&good[..], &[0]].concat()), Err(RowError::Framing));
        assert_eq!(digester.row(&row(&[None])), Err(RowError::Columns { found: 1, expected: 2 }));
        assert_eq!(digester.row(&[]), Err(RowError::Framing));
        assert_eq!(digester.digest(), Digest::default());
    }

    proptest! {
        #[test]
        fn the_digest_ignores_order_and_adds_up(
            mut rows in prop::collection::vec(
                prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), 2..=2), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = digest_of(&rows);
            let (left, right) = rows.split_at(cut.index(rows.len() + 1));
            prop_assert_eq!(whole, digest_of(left) + digest_of(right));
            rows.reverse();
            prop_assert_eq!(whole, digest_of(&rows));
            let json = serde_json::to_string(&whole).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).expect("parses"), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), columns in 0usize..4) {
            let _ = Digester::new(columns).row(&bytes);
        }
    }
}

//! Large objects as rows: how an archive holds them, and what is hashed of them.
//!
//! A row is a piece of an object, in COPY BINARY: its OID (`oid`), the piece's offset in bytes (`bigint`), and
//! the piece (`bytea`). Every object has a piece at offset 0, which is empty if the object is; pieces of an
//! object follow each other without a gap. Pure.

use bytes::{BufMut, BytesMut};

use crate::transfer::archive::{Column, PlannedContent, WireFormat};
use crate::transfer::digest::{Digester, RowError, fields};
use crate::transfer::relay::Rows;

/// How much of a large object is read and written at once.
pub const PIECE: i32 = 1024 * 1024;

const COLUMNS: [(&str, &str); 3] = [("oid", "oid"), ("offset", "bigint"), ("bytes", "bytea")];

/// A piece of a large object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The object.
    pub oid: u32,
    /// Where in it, in bytes.
    pub offset: i64,
    /// What stands there; empty only for an empty object.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The piece that a row (field count first) holds.
    pub fn parse(row: &'a [u8]) -> Result<Piece<'a>, RowError> {
        let mut fields = fields(row, COLUMNS.len())?.flatten();
        let (oid, offset, bytes) = (fields.next(), fields.next(), fields.next());
        let (Some(oid), Some(offset), Some(bytes)) = (oid, offset, bytes) else {
            return Err(RowError::Framing);
        };
        Ok(Piece {
            oid: u32::from_be_bytes(oid.try_into().map_err(|_| RowError::Framing)?),
            offset: i64::from_be_bytes(offset.try_into().map_err(|_| RowError::Framing)?),
            bytes,
        })
    }

    /// Appends the piece as a row.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_i16(3);
        out.put_i32(4);
        out.put_u32(self.oid);
        out.put_i32(8);
        out.put_i64(self.offset);
        out.put_i32(i32::try_from(self.bytes.len()).expect("a piece has at most PIECE bytes"));
        out.put_slice(self.bytes);
    }
}

/// A digester for rows of pieces.
pub fn digester() -> Digester {
    Digester::new(COLUMNS.len())
}

/// What the rows look like.
pub fn rows() -> Rows {
    Rows::Binary { columns: COLUMNS.len(), masked: vec![], embedded: vec![], is_archived: true }
}

/// How an archive announces `chunks` chunks of large objects.
pub fn content(chunks: u32) -> PlannedContent {
    let column =
        |(name, type_name): &(&str, &str)| Column { name: (*name).into(), type_name: (*type_name).into() };
    PlannedContent { columns: COLUMNS.iter().map(column).collect(), wire_format: WireFormat::Binary, chunks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_comes_back_from_its_row() {
        let piece = Piece { oid: 4_000_000_000, offset: 1 << 33, bytes: b"abc" };
        let mut row = BytesMut::new();
        piece.write(&mut row);
        assert_eq!(Piece::parse(&row), Ok(piece));
        assert!(Piece::parse(&row[..row.len() - 1]).is_err());
        let null = [&[0, 3][..], &[0xff; 12]].concat();
        assert_eq!(Piece::parse(&null), Err(RowError::Framing));
    }
}

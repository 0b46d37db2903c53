//! Re-encoding of legacy embeddings in the stream: `real[]` to pgvector's `vector`.
//!
//! pgvecto.rs 0.2 has no binary output and 0.3 and 0.4 have an incompatible one, so its column is read as
//! `embedding::real[]`. Both layouts hold the same big-endian float4 values; only the frame around them
//! differs, so the conversion is bit exact:
//!
//! - `real[]` (`array_send`): int32 dimensions = 1, int32 flags, int32 element OID = 700, int32 length,
//!   int32 lower bound, then per element int32 4 and the float4;
//! - `vector` (`vector_send`): int16 length, int16 0, then the float4 values.

use bytes::{BufMut, BytesMut};

use crate::transfer::digest::{RowError, fields};

/// The OID of `float4` (`pg_type.dat`).
const FLOAT4: i32 = 700;

/// Why an array is no vector.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConvertError {
    /// The row around it is damaged.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Not a one-dimensional `real[]` in the form that `array_send` writes.
    #[error("a value that should be a one-dimensional real[] is not")]
    NotAnArray,
    /// Not in the form that `vector_send` writes.
    #[error("a value that should be a vector is not")]
    NotAVector,
    /// pgvector holds no NULL.
    #[error("an embedding holds a NULL element")]
    NullElement,
    /// pgvector holds no NaN and no infinity.
    #[error("an embedding holds a value that is not finite ({0})")]
    NotFinite(f32),
}

/// Appends `row` (COPY BINARY, field count first) to `out`, with the fields at `columns` turned from `real[]`
/// into `vector`.
pub fn embed(row: &[u8], width: usize, columns: &[usize], out: &mut BytesMut) -> Result<(), ConvertError> {
    replace(row, width, columns, out, vector)
}

/// The reverse of [`embed`]: fields at `columns` are turned from `vector` into the `real[]` that they were.
pub fn extract(row: &[u8], width: usize, columns: &[usize], out: &mut BytesMut) -> Result<(), ConvertError> {
    replace(row, width, columns, out, array)
}

fn replace(
    row: &[u8],
    width: usize,
    columns: &[usize],
    out: &mut BytesMut,
    convert: fn(&[u8], &mut BytesMut) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let fields = fields(row, width)?;
    out.put_slice(&row[..2]);
    for (position, field) in fields.enumerate() {
        match field {
            None => out.put_i32(-1),
            Some(value) if columns.contains(&position) => convert(value, out)?,
            Some(value) => {
                out.put_i32(i32::try_from(value.len()).map_err(|_| RowError::Framing)?);
                out.put_slice(value);
            }
        }
    }
    Ok(())
}

fn vector(array: &[u8], out: &mut BytesMut) -> Result<(), ConvertError> {
    let (header, elements) = array.split_first_chunk::<20>().ok_or(ConvertError::NotAnArray)?;
    let word = |index: usize| i32::from_be_bytes([0, 1, 2, 3].map(|byte| header[index * 4 + byte]));
    let (dimensions, element_oid, length) = (word(0), word(2), word(3));
    if dimensions != 1 || element_oid != FLOAT4 {
        return Err(ConvertError::NotAnArray);
    }
    let length = i16::try_from(length).map_err(|_| ConvertError::NotAnArray)?;
    let size = usize::try_from(length).map_err(|_| ConvertError::NotAnArray)?;
    out.put_i32(4 + 4 * i32::from(length));
    out.put_i16(length);
    out.put_i16(0);
    let mut rest = elements;
    for _ in 0..size {
        let (width, after) = rest.split_first_chunk::<4>().ok_or(ConvertError::NotAnArray)?;
        match i32::from_be_bytes(*width) {
            4 => {}
            -1 => return Err(ConvertError::NullElement),
            _ => return Err(ConvertError::NotAnArray),
        }
        let (element, after) = after.split_first_chunk::<4>().ok_or(ConvertError::NotAnArray)?;
        let value = f32::from_be_bytes(*element);
        if !value.is_finite() {
            return Err(ConvertError::NotFinite(value));
        }
        out.put_slice(element);
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(ConvertError::NotAnArray) }
}

fn array(vector: &[u8], out: &mut BytesMut) -> Result<(), ConvertError> {
    let (header, elements) = vector.split_first_chunk::<4>().ok_or(ConvertError::NotAVector)?;
    let length = i16::from_be_bytes([header[0], header[1]]);
    let size = usize::try_from(length).map_err(|_| ConvertError::NotAVector)?;
    if elements.len() != 4 * size {
        return Err(ConvertError::NotAVector);
    }
    out.put_i32(20 + 8 * i32::from(length));
    for word in [1, 0, FLOAT4, i32::from(length), 1] {
        out.put_i32(word);
    }
    for element in elements.chunks_exact(4) {
        out.put_i32(4);
        out.put_slice(element);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn real_array(values: &[Option<f32>]) -> Vec<u8> {
        let length = i32::try_from(values.len()).expect("short");
        let mut bytes: Vec<u8> =
            [1, 0, FLOAT4, length, 1].iter().flat_map(|word: &i32| word.to_be_bytes()).collect();
        for value in values {
            match value {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend(4_i32.to_be_bytes());
                    bytes.extend(value.to_be_bytes());
                }
            }
        }
        bytes
    }

    fn row(value: &[u8]) -> Vec<u8> {
        let length = i32::try_from(value.len()).expect("short");
        [&1_i16.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
    }

    fn convert(array: &[u8]) -> Result<Vec<u8>, ConvertError> {
        let mut out = BytesMut::new();
        embed(&row(array), 1, &[0], &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn the_layout_is_that_of_vector_send() {
        let expected = row(&[0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0x80, 0, 0, 0]);
        assert_eq!(convert(&real_array(&[Some(1.0), Some(-0.0)])), Ok(expected));
    }

    #[test]
    fn what_pgvector_would_refuse_is_refused_here() {
        assert_eq!(convert(&real_array(&[Some(1.0), None])), Err(ConvertError::NullElement));
        assert_eq!(convert(&real_array(&[Some(f32::INFINITY)])), Err(ConvertError::NotFinite(f32::INFINITY)));
        assert!(matches!(convert(&real_array(&[Some(f32::NAN)])), Err(ConvertError::NotFinite(_))));
        assert_eq!(convert(&[0; 12]), Err(ConvertError::NotAnArray));
        let mut text = real_array(&[Some(1.0)]);
        text[11] = 25; // an array of text
        assert_eq!(convert(&text), Err(ConvertError::NotAnArray));
    }

    proptest! {
        #[test]
        fn every_bit_of_every_value_arrives(values in prop::collection::vec(-1e30f32..1e30, 0..64)) {
            let out = convert(&real_array(&values.iter().copied().map(Some).collect::<Vec<_>>())).expect("finite");
            let body: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
            prop_assert_eq!(&out[10..], &body[..]);
            let mut back = BytesMut::new();
            extract(&out, 1, &[0], &mut back).expect("a vector");
            prop_assert_eq!(&back[..], &row(&real_array(&values.iter().copied().map(Some).collect::<Vec<_>>()))[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
            let _ = convert(&bytes);
            let mut out = BytesMut::new();
            let _ = embed(&bytes, 1, &[0], &mut out);
            let _ = extract(&bytes, 1, &[0], &mut out);
            let _ = extract(&row(&bytes), 1, &[0], &mut out);
        }
    }
}

//! The codec of bodies: turns the inputs of a batch into compressed bytes and back.
//!
//! A body is postcard, packed by zstd (level 1, with its own checksum) or by LZ4 (behind a CRC-32 of what was packed).
//! Neither postcard nor LZ4 describes itself, so every row says in which format its body is. The checksum finds bytes
//! that rotted on the flash. Buffers are reused from one batch to the next: in steady state encoding allocates nothing,
//! and a frame is copied once.

use std::io;

use kerbside_model::StoredInput;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

/// Postcard in zstd, the format of snapshots and sites. Formats are to be numbered anew when a stored type changes its
/// postcard form.
pub(crate) const BODY_FORMAT: u32 = 1;
/// Postcard in LZ4.
const BODY_FORMAT_LZ4: u32 = 2;
/// zstd level 1: JSON payloads of street devices shrink tenfold at hundreds of megabytes a second.
const LEVEL: i32 = 1;
/// Bytes of the checksum in front of an LZ4 block.
const CHECKSUM_BYTES: usize = 4;
/// A body that claims to be larger is damaged; the intake lets far less into one batch.
const BODY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// A buffer that grew above this is given back after use.
const KEPT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A stored body cannot be turned back into what it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Written by another version of kerbside.
    #[error("its body has format {found} and this kerbside reads format {known}")]
    Format {
        /// Format in the row.
        found: u32,
        /// Format of this program.
        known: u32,
    },
    /// The row says a size that no body has.
    #[error("its body claims {claimed} bytes, more than the {max} that a body may have")]
    Size {
        /// Size in the row, bytes.
        claimed: u64,
        /// Largest size, bytes.
        max: u64,
    },
    /// The compressed bytes are damaged.
    #[error("unpack its body")]
    Unpack(#[source] io::Error),
    /// The unpacked bytes are not what they should be.
    #[error("decode its body")]
    Decode(#[source] postcard::Error),
    /// Something is left over, or the number of inputs is not the stored one.
    #[error("its body holds {found} where the row says {expected}")]
    Content {
        /// What was found.
        found: String,
        /// What the row says.
        expected: String,
    },
    /// The database cannot read the row's pages.
    #[error("read its row")]
    Row(#[source] rusqlite::Error),
}

/// How the bodies of batches are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// The fewest bytes: JSON shrinks about tenfold. Easy on flash.
    Zstd,
    /// The least processor time: JSON shrinks about fourfold, at a third of the cost.
    Lz4,
}

/// Packs bodies, one after another, in buffers of its own.
pub(crate) struct Encoder {
    packing: Packing,
    compressor: Compressor<'static>,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

/// A packed body, until the encoder packs the next one.
pub(crate) struct Packed<'a> {
    pub(crate) format: u32,
    pub(crate) raw_bytes: u64,
    pub(crate) body: &'a [u8],
}

/// A packed body that stands alone: snapshots and sites are rare and keep no buffers.
pub(crate) struct OwnedBody {
    pub(crate) raw_bytes: u64,
    pub(crate) body: Vec<u8>,
}

impl OwnedBody {
    /// Packs plain data.
    pub(crate) fn pack<T: Serialize + ?Sized>(value: &T) -> OwnedBody {
        let raw = postcard::to_stdvec(value).expect("stored values are plain data of known length");
        OwnedBody::pack_bytes(&raw)
    }

    /// Packs bytes as they are.
    pub(crate) fn pack_bytes(raw: &[u8]) -> OwnedBody {
        let mut packed = Vec::new();
        let mut encoder = Encoder::new(Packing::Zstd);
        Encoder::compress(&mut encoder.compressor, raw, &mut packed);
        OwnedBody { raw_bytes: raw.len() as u64, body: packed }
    }
}

impl Encoder {
    pub(crate) fn new(packing: Packing) -> Encoder {
        let mut compressor = Compressor::new(LEVEL).expect("zstd knows level 1");
        compressor.include_checksum(true).expect("zstd can add a checksum");
        Encoder { packing, compressor, raw: Vec::new(), packed: Vec::new() }
    }

    /// Packs plain data.
    pub(crate) fn pack<T: Serialize + ?Sized>(&mut self, value: &T) -> Packed<'_> {
        self.raw.clear();
        postcard::serialize_with_flavor(value, IntoVec(&mut self.raw))
            .expect("stored values are plain data of known length");
        let format = match self.packing {
            Packing::Zstd => {
                Encoder::compress(&mut self.compressor, &self.raw, &mut self.packed);
                BODY_FORMAT
            }
            Packing::Lz4 => {
                compress_lz4(&self.raw, &mut self.packed);
                BODY_FORMAT_LZ4
            }
        };
        Packed { format, raw_bytes: self.raw.len() as u64, body: &self.packed }
    }

    /// Gives back memory that one large body took.
    pub(crate) fn shrink(&mut self) {
        for buffer in [&mut self.raw, &mut self.packed] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
    }

    fn compress(compressor: &mut Compressor<'static>, raw: &[u8], packed: &mut Vec<u8>) {
        packed.clear();
        packed.reserve(zstd_safe::compress_bound(raw.len()));
        compressor.compress_to_buffer(raw, packed).expect("the buffer has the size that zstd asks for");
    }
}

fn compress_lz4(raw: &[u8], packed: &mut Vec<u8>) {
    packed.resize(CHECKSUM_BYTES + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
    let (checksum, block) = packed.split_at_mut(CHECKSUM_BYTES);
    checksum.copy_from_slice(&crc32fast::hash(raw).to_le_bytes());
    let length = lz4_flex::block::compress_into(raw, block).expect("the buffer has the size that LZ4 asks for");
    packed.truncate(CHECKSUM_BYTES + length);
}

fn unpack_lz4(packed: &[u8], raw_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let damaged = |words: String| CodecError::Unpack(io::Error::new(io::ErrorKind::InvalidData, words));
    let Some((checksum, block)) = packed.split_first_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged("its checksum is missing".to_owned()));
    };
    let raw = lz4_flex::block::decompress(block, raw_bytes).map_err(|error| damaged(error.to_string()))?;
    if crc32fast::hash(&raw) != u32::from_le_bytes(*checksum) {
        return Err(damaged("its checksum is not that of its content".to_owned()));
    }
    Ok(raw)
}

/// A body as its row has it.
pub(crate) struct StoredBody<'a> {
    pub(crate) format: u32,
    pub(crate) raw_bytes: u64,
    pub(crate) body: &'a [u8],
}

impl StoredBody<'_> {
    /// The bytes that were packed.
    pub(crate) fn unpack(&self) -> Result<Vec<u8>, CodecError> {
        if !matches!(self.format, BODY_FORMAT | BODY_FORMAT_LZ4) {
            return Err(CodecError::Format { found: self.format, known: BODY_FORMAT });
        }
        let size_error = CodecError::Size { claimed: self.raw_bytes, max: BODY_BYTES_MAX };
        if self.raw_bytes > BODY_BYTES_MAX {
            return Err(size_error);
        }
        let capacity = usize::try_from(self.raw_bytes).map_err(|_| size_error)?;
        let raw = if self.format == BODY_FORMAT_LZ4 {
            unpack_lz4(self.body, capacity)?
        } else {
            let mut decompressor = Decompressor::new().map_err(CodecError::Unpack)?;
            decompressor.decompress(self.body, capacity).map_err(CodecError::Unpack)?
        };
        check_equal(raw.len() as u64, self.raw_bytes, "bytes")?;
        Ok(raw)
    }

    /// The value that was packed.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        let raw = self.unpack()?;
        let (value, rest) = postcard::take_from_bytes::<T>(&raw).map_err(CodecError::Decode)?;
        check_equal(rest.len() as u64, 0, "bytes after the end")?;
        Ok(value)
    }

    /// The inputs that were packed, as many as the row says.
    pub(crate) fn decode_inputs(&self, count: u64) -> Result<Vec<StoredInput>, CodecError> {
        let inputs: Vec<StoredInput> = self.decode()?;
        check_equal(inputs.len() as u64, count, "inputs")?;
        Ok(inputs)
    }
}

fn check_equal(found: u64, expected: u64, unit: &str) -> Result<(), CodecError> {
    if found == expected {
        return Ok(());
    }
    Err(CodecError::Content { found: format!("{found} {unit}"), expected: format!("{expected} {unit}") })
}

/// Appends to a vector that outlives the serializer.
struct IntoVec<'a>(&'a mut Vec<u8>);

impl Flavor for IntoVec<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kerbside_model::{ByteText, Frame, Payload, Timestamp};
    use proptest::prelude::*;

    fn inputs(count: usize) -> Vec<StoredInput> {
        let frame = |number: usize| Frame {
            source: "mqtt".into(),
            address: ByteText::from(format!("covers/{number}")),
            payload: Payload::Bytes(format!("{{\"tilt\":{number}}}").into_bytes().into()),
            received_at: Timestamp(number as i64),
            retained: false,
        };
        (0..count).map(|number| StoredInput::Frame(frame(number))).collect()
    }

    #[test]
    fn a_body_that_was_packed_in_used_buffers_comes_back_whole() {
        for packing in [Packing::Zstd, Packing::Lz4] {
            let mut encoder = Encoder::new(packing);
            for count in [500, 3, 0, 40] {
                let packed = encoder.pack(&inputs(count));
                let stored = StoredBody { format: packed.format, raw_bytes: packed.raw_bytes, body: packed.body };
                let back = stored.decode_inputs(count as u64).unwrap();
                assert_eq!(format!("{back:?}"), format!("{:?}", inputs(count)));
            }
            encoder.shrink();
        }
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let error = StoredBody { format: 7, raw_bytes: 1, body: &[] }.unpack().unwrap_err();
        assert_eq!(error.to_string(), "its body has format 7 and this kerbside reads format 1");
    }

    proptest! {
        #[test]
        fn no_flipped_byte_goes_unnoticed(is_lz4 in any::<bool>(), position in 0_usize..4096, flip in 1_u8..=255) {
            let mut encoder = Encoder::new(if is_lz4 { Packing::Lz4 } else { Packing::Zstd });
            let packed = encoder.pack(&inputs(60));
            let (format, raw_bytes) = (packed.format, packed.raw_bytes);
            let mut body = packed.body.to_vec();
            let position = position % body.len();
            body[position] ^= flip;
            let decoded = StoredBody { format, raw_bytes, body: &body }.decode_inputs(60);
            // A flip in zstd's header may change what does not matter; then the inputs are still the right ones.
            if let Ok(back) = decoded {
                prop_assert_eq!(format!("{back:?}"), format!("{:?}", inputs(60)));
            }
        }

        #[test]
        fn foreign_bytes_never_panic(
            format in 1_u32..3,
            body in proptest::collection::vec(any::<u8>(), 0..300),
            raw_bytes in any::<u64>(),
        ) {
            drop(StoredBody { format, raw_bytes, body: &body }.decode_inputs(1));
        }
    }
}

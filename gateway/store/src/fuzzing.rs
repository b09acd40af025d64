//! A door to the codec of bodies for fuzz targets (`tests/fuzz`), and for nothing else.

use kerbside_model::StoredInput;

use crate::batch::{BODY_FORMAT, CodecError, Encoder, OwnedBody, StoredBody};

/// A body with what its row says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The format in the row.
    pub format: u32,
    /// Bytes before they were packed.
    pub raw_bytes: u64,
    /// Packed.
    pub packed: Vec<u8>,
}

impl Body {
    /// Packs inputs as a commit does.
    pub fn of_inputs(inputs: &[StoredInput]) -> Body {
        let mut encoder = Encoder::new(crate::Packing::Zstd);
        let packed = encoder.pack(inputs);
        Body { format: BODY_FORMAT, raw_bytes: packed.raw_bytes, packed: packed.body.to_vec() }
    }

    /// Packs bytes that need not be inputs, with a checksum that fits.
    pub fn of_raw(raw: &[u8]) -> Body {
        let packed = OwnedBody::pack_bytes(raw);
        Body { format: BODY_FORMAT, raw_bytes: packed.raw_bytes, packed: packed.body }
    }

    /// The inputs, when there are as many as the row says.
    pub fn inputs(&self, count: u64) -> Result<Vec<StoredInput>, CodecError> {
        StoredBody { format: self.format, raw_bytes: self.raw_bytes, body: &self.packed }.decode_inputs(count)
    }
}

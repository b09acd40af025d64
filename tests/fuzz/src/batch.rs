//! Stored bodies: bytes that rotted, or that another program wrote, give an error and no panic; what can be read comes
//! back the same after it was packed again.

use kerbside_model::StoredInput;
use kerbside_store::fuzzing::Body;

/// Reads the bytes as a packed body, and as the content of one. The first byte says how many inputs the row claims.
///
/// # Panics
/// When reading panics, or what was read is not what is read after it was packed again.
pub fn batch(data: &[u8]) {
    let Some((count, data)) = data.split_first() else { return };
    let count = u64::from(*count);
    // A row claims a size as well: the right one, and one that lies.
    for raw_bytes in [data.len() as u64 * 4, u64::from(u32::MAX)] {
        for format in 0..4 {
            drop(Body { format, raw_bytes, packed: data.to_vec() }.inputs(count));
        }
    }
    // zstd's checksum stops nearly all damage; behind it nothing may be believed either.
    if let Ok(inputs) = Body::of_raw(data).inputs(count) {
        check_again(&inputs);
    }
}

fn check_again(inputs: &[StoredInput]) {
    let packed = Body::of_inputs(inputs);
    let again = packed.inputs(inputs.len() as u64).unwrap_or_else(|error| panic!("{error}: {inputs:?}"));
    assert_eq!(format!("{again:?}"), format!("{inputs:?}"));
    for input in inputs {
        // Every frame that the store gives back is looked at by decoders.
        if let StoredInput::Frames(frames) = input {
            assert_eq!(frames.iter().count(), frames.len());
        }
    }
}

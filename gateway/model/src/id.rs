//! Identifiers that are hashes of what they name, so that a replay gives the same ones.

use sha2::{Digest, Sha256};

/// Crockford's base 32 without I, L, O and U: can be read out over the telephone.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 60 bits: one million episodes of one gateway collide with a chance of 4e-7.
const CHARACTERS: usize = 12;

/// Tells the points of a profile apart by their names, where positions may be others tomorrow (FNV-1a, 32 bits).
pub fn point_key(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A short identifier from the parts that make a thing unique.
pub fn hashed(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let mut bits = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    let mut text = String::with_capacity(CHARACTERS);
    for _ in 0..CHARACTERS {
        text.push(char::from(ALPHABET[(bits >> 59) as usize]));
        bits <<= 5;
    }
    text
}

/// The hexadecimal SHA-256 of some bytes: names a configuration by its content.
pub fn content_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_parts_counts() {
        assert_ne!(hashed(&["ab", "c"]), hashed(&["a", "bc"]));
        assert_eq!(hashed(&["a", "b"]), hashed(&["a", "b"]));
        assert_eq!(hashed(&["a"]).len(), CHARACTERS);
    }
}

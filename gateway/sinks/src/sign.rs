//! Links with which an officer signs for a case (签收) without logging in.
//!
//! Turns a case id into a link that nobody can make without the key, and checks such links. Nothing is stored: a
//! link stays good across restarts for as long as the key does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use kerbside_runtime::Secret;
use sha2::Sha256;

/// 128 bits of the code are enough: it is checked here only, and guessing it over the network is hopeless.
const TOKEN_BYTES: usize = 16;
/// Keeps these codes apart from any other use of the same key.
const PURPOSE: &[u8] = b"sign\n";

/// Makes and checks the links of one gateway.
#[derive(Clone, Debug)]
pub struct SignLinks {
    base_url: String,
    key: Secret,
}

impl SignLinks {
    /// Links that begin with `base_url`, such as `https://gateway.example.org`, made with this key.
    pub fn new(base_url: impl Into<String>, key: Secret) -> SignLinks {
        let base_url: String = base_url.into();
        SignLinks { base_url: base_url.trim_end_matches('/').to_owned(), key }
    }

    /// The link that signs for this case: `BASE/s/CASE/TOKEN`.
    pub fn url(&self, case_id: &str) -> String {
        format!("{}/s/{case_id}/{}", self.base_url, self.token(case_id))
    }

    /// The token alone.
    pub fn token(&self, case_id: &str) -> String {
        let code = self.code(case_id).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(&code[..TOKEN_BYTES])
    }

    /// Whether the token belongs to the case. Takes the same time for every wrong token of the right length.
    pub fn verify(&self, case_id: &str, token: &str) -> bool {
        let Ok(code) = URL_SAFE_NO_PAD.decode(token) else { return false };
        code.len() == TOKEN_BYTES && self.code(case_id).verify_truncated_left(&code).is_ok()
    }

    fn code(&self, case_id: &str) -> Hmac<Sha256> {
        let mut code = keyed(self.key.expose().as_bytes());
        code.update(PURPOSE);
        code.update(case_id.as_bytes());
        code
    }
}

/// HMAC-SHA256 of a message.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut code = keyed(key);
    code.update(message);
    code.finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(key: &str) -> SignLinks {
        SignLinks::new("https://gateway.example.org/", Secret::new(key))
    }

    #[test]
    fn a_link_signs_for_its_own_case_only() {
        let token = links("k").token("KB-0123456789AB");
        assert_eq!(token.len(), 22);
        assert!(links("k").verify("KB-0123456789AB", &token));
        assert!(!links("k").verify("KB-0123456789AC", &token));
        assert!(!links("other").verify("KB-0123456789AB", &token));
        assert_eq!(links("k").url("KB-0123456789AB"), format!("https://gateway.example.org/s/KB-0123456789AB/{token}"));
    }

    #[test]
    fn a_token_that_is_cut_changed_or_garbage_is_refused() {
        let token = links("k").token("KB-1");
        for wrong in ["", "A", &token[..21], &token[..20], &format!("{token}A"), "签收", "=====", &"A".repeat(22)] {
            assert!(!links("k").verify("KB-1", wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_token_is_the_left_half_of_the_code() {
        let code = hmac_sha256(b"k", b"sign\nKB-1");
        assert_eq!(links("k").token("KB-1"), URL_SAFE_NO_PAD.encode(&code[..16]));
    }
}

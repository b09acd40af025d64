//! Hashed passwords of devices: `$7$ITERATIONS$SALT$HASH`, as Mosquitto's password files hold them.
//!
//! Turns a password into such a text (PBKDF2 with HMAC-SHA-512, RFC 8018; salt and hash in base64) and tells whether a
//! password is the one that was hashed. So a site can move between the embedded broker and Mosquitto with the file it
//! has. Keeps nothing and has no metrics.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

/// How often the hash is stepped for new passwords: three milliseconds of an x86 core, so that a thousand devices that
/// come back together are in before they lose patience. What is asked of passwords that people choose (210,000) would
/// take minutes; `kerbside broker account` draws random ones, for which a single step would do.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(2_000).expect("it is not zero");
/// What a line of a file may ask of us: about a second of one core.
const ITERATIONS_MAX: u32 = 1_000_000;
/// More than anybody can try, and no padding in base64.
const PASSWORD_BYTES: usize = 18;
const SALT_BYTES: usize = 16;
/// RFC 8018 has no upper limit; Mosquitto writes 12 or 64.
const SALT_BYTES_MAX: usize = 128;
/// SHA-512 has 64 bytes.
const HASH_BYTES: usize = 64;
const KIND: &str = "7";

/// What is known of a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PasswordHash {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// The system gave no random bytes for a password or a salt.
#[derive(Debug, thiserror::Error)]
#[error("draw random bytes: the system gives none")]
pub struct NoRandomness;

impl PasswordHash {
    pub(super) fn parse(text: &str) -> Result<PasswordHash, &'static str> {
        let mut parts = text.split('$');
        let (Some(""), Some(kind), Some(iterations), Some(salt), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("the password is not hashed as $7$ITERATIONS$SALT$HASH");
        };
        if kind != KIND {
            return Err("the kind of the hash is not 7 (PBKDF2 with SHA-512)");
        }
        let iterations = iterations.parse().ok().filter(|count: &NonZeroU32| count.get() <= ITERATIONS_MAX);
        let iterations = iterations.ok_or("the number of iterations is not from 1 to 1000000")?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
        let hash = STANDARD.decode(hash).ok().filter(|hash| hash.len() == HASH_BYTES);
        Ok(PasswordHash {
            iterations,
            salt: salt.ok_or("the salt is not 1 to 128 bytes in base64")?,
            hash: hash.ok_or("the hash is not 64 bytes in base64")?,
        })
    }

    /// Takes as long as the iterations ask; the comparison tells nothing by its time.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, self.iterations, &self.salt, password, &self.hash).is_ok()
    }
}

/// Draws a password for a device: 24 letters that stand for 144 random bits.
pub fn random_password() -> Result<String, NoRandomness> {
    let mut bytes = [0; PASSWORD_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Hashes a password for the accounts file.
pub fn hash_password(password: &str) -> Result<String, NoRandomness> {
    hash(password, ITERATIONS)
}

pub(super) fn hash(password: &str, iterations: NonZeroU32) -> Result<String, NoRandomness> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| NoRandomness)?;
    let mut hash = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, password.as_bytes(), &mut hash);
    Ok(format!("${KIND}${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_by_its_hash_and_no_other_is() {
        let text = hash_password("open sesame").unwrap();
        let hash = PasswordHash::parse(&text).unwrap();
        assert!(hash.is_of(b"open sesame"));
        assert!(!hash.is_of(b"open sesame "));
        assert!(!hash.is_of(b""));
        assert_ne!(text, hash_password("open sesame").unwrap(), "each has its own salt");
    }

    #[test]
    fn a_drawn_password_is_long_and_never_the_same() {
        let password = random_password().unwrap();
        assert_eq!(password.len(), 24);
        assert!(password.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')));
        assert_ne!(password, random_password().unwrap());
    }

    #[test]
    fn a_line_that_mosquitto_wrote_is_understood() {
        let hash = PasswordHash::parse(MOSQUITTO).unwrap();
        assert!(hash.is_of(b"manhole-17"));
        assert!(!hash.is_of(b"manhole-18"));
    }

    #[test]
    fn what_is_no_hash_is_refused_with_the_reason() {
        let good = hash_password("x").unwrap();
        let (head, hash) = good.rsplit_once('$').unwrap();
        for (text, words) in [
            ("secret".to_owned(), "not hashed"),
            (String::new(), "not hashed"),
            (good.replacen("$7$", "$6$", 1), "kind"),
            (good.replacen("$2000$", "$0$", 1), "iterations"),
            (good.replacen("$2000$", "$4000000000$", 1), "iterations"),
            (format!("$7$2000$$${hash}"), "not hashed"),
            (format!("$7$2000$!!${hash}"), "salt"),
            (format!("{head}$AAAA"), "hash"),
            (format!("{good}$"), "not hashed"),
        ] {
            let problem = PasswordHash::parse(&text).map(|_| ()).unwrap_err();
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }

    /// Made with `mosquitto_passwd -b` of Mosquitto 2.0.
    const MOSQUITTO: &str = concat!(
        "$7$101$OAy0WVklgmSeFGtv$XMINngLNNrSHoChHK3fuSr0NsQF3VoOznEMV8UiIfHZQjaKx",
        "/v1TzYRyKHEARGhLtVTlrGJEVXesKuUOlRRv7Q=="
    );
}

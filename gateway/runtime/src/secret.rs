//! Secrets: they print as `***`.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A password, token or key.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(SecretString::from(text.into()))
    }

    /// The secret itself; for the one line that sends it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// For two readings of one configuration, where nobody measures how long it takes. What strangers send is never compared
/// by this.
impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

//! Topic aliases of one connection (MQTT 5, section 3.3.2.3.4): numbers that the broker sends instead of topics.
//!
//! They live and die with their connection.

use std::sync::Arc;

use super::codec::CodecError;

/// How many aliases we allow. A topic has up to 64 KiB, so this bounds what a hostile broker may make us remember to
/// 16 MiB; with usual topics it is 16 KiB.
pub(super) const TOPIC_ALIASES_MAX: u16 = 256;

/// What each alias stands for.
#[derive(Debug, Default)]
pub(super) struct Aliases(Vec<Option<Arc<str>>>);

impl Aliases {
    /// From now on `alias` stands for `topic`.
    pub(super) fn set(&mut self, alias: u16, topic: &str) -> Result<(), CodecError> {
        let place = place(alias)?;
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        if self.0[place].as_deref() != Some(topic) {
            self.0[place] = Some(Arc::from(topic));
        }
        Ok(())
    }

    /// What `alias` stands for.
    pub(super) fn get(&self, alias: u16) -> Result<Arc<str>, CodecError> {
        let known = self.0.get(place(alias)?).and_then(Option::as_ref);
        known.map(Arc::clone).ok_or(CodecError::UnknownAlias(alias))
    }
}

fn place(alias: u16) -> Result<usize, CodecError> {
    if alias == 0 || alias > TOPIC_ALIASES_MAX {
        return Err(CodecError::Alias(alias));
    }
    Ok(usize::from(alias) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_stands_for_its_last_topic_within_the_limit() {
        let mut aliases = Aliases::default();
        assert_eq!(aliases.get(7), Err(CodecError::UnknownAlias(7)));
        aliases.set(7, "a").unwrap();
        aliases.set(TOPIC_ALIASES_MAX, "b").unwrap();
        aliases.set(7, "c").unwrap();
        assert_eq!(aliases.get(7).as_deref(), Ok("c"));
        assert_eq!(aliases.get(TOPIC_ALIASES_MAX).as_deref(), Ok("b"));
        assert_eq!(aliases.get(8), Err(CodecError::UnknownAlias(8)));
        for alias in [0, TOPIC_ALIASES_MAX + 1, u16::MAX] {
            assert_eq!(aliases.set(alias, "x"), Err(CodecError::Alias(alias)));
            assert_eq!(aliases.get(alias), Err(CodecError::Alias(alias)));
        }
    }
}

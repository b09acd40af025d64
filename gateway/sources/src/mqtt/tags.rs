//! User properties of a message to tags: only those that the configuration names.

use std::sync::Arc;

use kerbside_model::{Tag, Tags};

use super::properties::{Properties, Value, id};

/// A longer value is cut: a tag is a name of something, and each value is a series in the telemetry database.
const VALUE_BYTES_MAX: usize = 128;

/// Picks properties and remembers the last set, because messages that follow each other mostly carry the same.
#[derive(Debug)]
pub(super) struct Tagger {
    names: Vec<Arc<str>>,
    last: Option<Tags>,
}

impl Tagger {
    pub(super) fn new(names: &[String]) -> Tagger {
        Tagger { names: names.iter().map(|name| Arc::from(name.as_str())).collect(), last: None }
    }

    /// Whether any property is asked for.
    pub(super) fn is_wanted(&self) -> bool {
        !self.names.is_empty()
    }

    /// The tags in `properties` of a message, which the decoder has walked; of a name that stands there twice the first.
    pub(super) fn tags(&mut self, properties: &[u8]) -> Option<Tags> {
        let found = self.names.iter().filter_map(|name| Some((name, value(properties, name)?)));
        if let Some(last) = &self.last
            && last
                .iter()
                .map(|tag| (&*tag.name, tag.value.as_bytes()))
                .eq(found.clone().map(|(name, value)| (&**name, value)))
        {
            return Some(Arc::clone(last));
        }
        let tag = |(name, value): (&Arc<str>, &[u8])| Tag {
            name: Arc::clone(name),
            value: Arc::from(String::from_utf8_lossy(value)),
        };
        let tags: Tags = found.map(tag).collect();
        if tags.is_empty() {
            return None;
        }
        self.last = Some(Arc::clone(&tags));
        Some(tags)
    }
}

/// The first value of a name that is not empty (an empty tag is none in the database), cut to its limit.
fn value<'a>(properties: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut properties = Properties::new(properties, "PUBLISH");
    while let Ok(Some((found, value))) = properties.next() {
        if found == id::USER_PROPERTY
            && let Value::Pair(key, value) = value
            && key == name.as_bytes()
            && !value.is_empty()
        {
            return Some(cut(value));
        }
    }
    None
}

/// At a border of letters.
fn cut(value: &[u8]) -> &[u8] {
    if value.len() <= VALUE_BYTES_MAX {
        return value;
    }
    let is_continuation = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let mut end = VALUE_BYTES_MAX;
    while end > 0 && is_continuation(value[end]) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = b"\x01\x01".to_vec();
        for (key, value) in pairs {
            bytes.push(id::USER_PROPERTY);
            for text in [key, value] {
                bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        bytes
    }

    fn texts(tags: Option<Tags>) -> Vec<(String, String)> {
        let tags = tags.map_or_else(Vec::new, |tags| tags.to_vec());
        tags.iter().map(|tag| (tag.name.to_string(), tag.value.to_string())).collect()
    }

    #[test]
    fn only_named_properties_become_tags_in_the_order_of_the_configuration() {
        let mut tagger = Tagger::new(&["operator".to_owned(), "line".to_owned()]);
        let bytes = properties(&[("other", "x"), ("line", ""), ("line", "2"), ("operator", "北"), ("line", "3")]);
        let expected = [("operator".to_owned(), "北".to_owned()), ("line".to_owned(), "2".to_owned())];
        assert_eq!(texts(tagger.tags(&bytes)), expected);
        assert_eq!(texts(tagger.tags(&properties(&[("other", "x")]))), []);
        assert_eq!(texts(tagger.tags(b"")), []);
    }

    #[test]
    fn messages_with_equal_properties_share_their_tags() {
        let mut tagger = Tagger::new(&["operator".to_owned()]);
        let first = tagger.tags(&properties(&[("operator", "a")])).unwrap();
        let same = tagger.tags(&properties(&[("operator", "a")])).unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        assert_eq!(&*tagger.tags(&properties(&[("operator", "b")])).unwrap()[0].value, "b");
    }

    #[test]
    fn a_long_value_is_cut_between_two_letters() {
        let mut tagger = Tagger::new(&["operator".to_owned()]);
        let long = format!("a{}", "井".repeat(100));
        let tags = tagger.tags(&properties(&[("operator", &long)])).unwrap();
        assert_eq!(&*tags[0].value, format!("a{}", "井".repeat(42)));
        assert!(tags[0].value.len() <= VALUE_BYTES_MAX);
    }
}

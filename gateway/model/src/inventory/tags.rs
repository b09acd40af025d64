//! Tags (标签): words by which a city takes devices together, such as those of one circuit or one low road.

/// Something goes by a tag: an override, a group, a view. More than these nobody keeps in mind.
pub const TAGS_MAX: usize = 16;
/// A tag is a word. Names of roads are shorter.
pub const TAG_CHARACTERS_MAX: usize = 40;
/// What stands between two tags in a cell; spaces do as well.
const SEPARATORS: [char; 6] = [';', ',', '、', '；', '，', '|'];
/// Signs in a tag beside letters and digits.
const SIGNS: [char; 5] = ['-', '_', '.', '/', ':'];

/// What is wrong with the tags of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFault {
    /// There are so many.
    TooMany(usize),
    /// This one is too long.
    TooLong(String),
    /// This one has a sign that no tag has.
    Strange(String),
}

/// Splits the words of a cell: sorted, each once.
pub fn split_tags(text: &str) -> Result<Vec<String>, TagFault> {
    let is_between = |letter: char| letter.is_whitespace() || SEPARATORS.contains(&letter);
    let mut tags: Vec<String> = Vec::new();
    for tag in text.split(is_between).filter(|tag| !tag.is_empty()) {
        check_tag(tag)?;
        tags.push(tag.to_owned());
    }
    tags.sort();
    tags.dedup();
    if tags.len() > TAGS_MAX { Err(TagFault::TooMany(tags.len())) } else { Ok(tags) }
}

/// Whether a word can be a tag.
pub fn check_tag(tag: &str) -> Result<(), TagFault> {
    if tag.chars().count() > TAG_CHARACTERS_MAX {
        return Err(TagFault::TooLong(tag.chars().take(TAG_CHARACTERS_MAX).collect()));
    }
    let is_plain = !tag.is_empty() && tag.chars().all(|letter| letter.is_alphanumeric() || SIGNS.contains(&letter));
    if is_plain { Ok(()) } else { Err(TagFault::Strange(tag.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_split_where_people_write_a_separator_and_kept_once_in_order() {
        let words = |text: &str| split_tags(text).unwrap().join(" ");
        assert_eq!(words("low-road;circuit-7"), "circuit-7 low-road");
        assert_eq!(words(" 下穿立交、学校周边， 学校周边；b,a|c "), "a b c 下穿立交 学校周边");
        assert_eq!(words(""), "");
        assert_eq!(words("; ,"), "");
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        let many: Vec<String> = (0..=TAGS_MAX).map(|number| format!("t{number}")).collect();
        assert_eq!(split_tags(&many.join(";")), Err(TagFault::TooMany(TAGS_MAX + 1)));
        assert!(matches!(split_tags(&"x".repeat(TAG_CHARACTERS_MAX + 1)), Err(TagFault::TooLong(_))));
        assert_eq!(split_tags("a;b*"), Err(TagFault::Strange("b*".to_owned())));
        assert!(split_tags(&many[..TAGS_MAX].join(";")).is_ok());
    }
}

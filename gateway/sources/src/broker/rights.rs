//! What an account may publish and subscribe to: topic filters in which `{account}` stands for its name.
//!
//! Turns the patterns of the configuration into an answer for a topic or a filter. Keeps nothing and has no metrics.

/// Stands for the name of the account in a pattern.
pub const ACCOUNT: &str = "{account}";

/// Every topic that there is.
const EVERYTHING: &str = "#";

/// What an account may do, as patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Where it may publish.
    pub publish: Vec<TopicPattern>,
    /// What it may subscribe to; a filter must lie within one of them.
    pub subscribe: Vec<TopicPattern>,
}

/// A topic filter in which `{account}` may stand for a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern(String);

/// The patterns of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Rights {
    /// Everything: programs that are trusted.
    pub fn everything() -> Rights {
        let everything = vec![TopicPattern(EVERYTHING.to_owned())];
        Rights { publish: everything.clone(), subscribe: everything }
    }

    pub(super) fn of(&self, account: &str) -> Permissions {
        let named = |patterns: &[TopicPattern]| patterns.iter().map(|pattern| pattern.named(account)).collect();
        Permissions { publish: named(&self.publish), subscribe: named(&self.subscribe) }
    }
}

impl TopicPattern {
    /// Reads a pattern such as `city/+/+/{account}/#`.
    pub fn parse(text: &str) -> Result<TopicPattern, &'static str> {
        if text.is_empty() || text.contains('\0') {
            return Err("the pattern is empty or holds a zero byte");
        }
        let levels: Vec<&str> = text.split('/').collect();
        for (position, level) in levels.iter().enumerate() {
            if level.contains('#') && (*level != "#" || position + 1 != levels.len()) {
                return Err("# must be the whole last level");
            }
            if level.contains('+') && *level != "+" {
                return Err("+ must be a whole level");
            }
            if level.contains(['{', '}']) && *level != ACCOUNT {
                return Err("braces stand only around {account}, as a whole level");
            }
        }
        Ok(TopicPattern(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn named(&self, account: &str) -> String {
        let levels: Vec<&str> = self.0.split('/').map(|level| if level == ACCOUNT { account } else { level }).collect();
        levels.join("/")
    }
}

impl Permissions {
    pub(super) fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|pattern| covers(pattern, topic))
    }

    pub(super) fn may_subscribe(&self, filter: &str) -> bool {
        let shared = filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/'));
        let filter = shared.map_or(filter, |(_group, rest)| rest);
        self.subscribe.iter().any(|pattern| covers(pattern, filter))
    }
}

/// Whether every topic of `filter`, or the topic that it is, is one of `pattern`.
fn covers(pattern: &str, filter: &str) -> bool {
    let mut wanted = filter.split('/');
    for level in pattern.split('/') {
        match (level, wanted.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(other)) if other != "#" => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

/// Whether a name can be put into a pattern, and into a line of the accounts file.
pub fn is_account_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= ACCOUNT_BYTES_MAX
        && !name.contains(['/', '+', '#', ':', '$'])
        && !name.contains(|letter: char| letter.is_control() || letter.is_whitespace())
}

/// Longest name of an account.
const ACCOUNT_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(publish: &[&str], subscribe: &[&str]) -> Permissions {
        let patterns = |texts: &[&str]| texts.iter().map(|text| TopicPattern::parse(text).unwrap()).collect::<Vec<_>>();
        Rights { publish: patterns(publish), subscribe: patterns(subscribe) }.of("MH-1")
    }

    #[test]
    fn a_device_publishes_only_below_its_own_name() {
        let permissions = permissions(&["city/+/+/{account}/#"], &[]);
        for topic in ["city/d01/manhole/MH-1/up", "city/d01/manhole/MH-1", "city///MH-1/a/b"] {
            assert!(permissions.may_publish(topic), "{topic}");
        }
        for topic in ["city/d01/manhole/MH-2/up", "city/MH-1/up", "town/d01/manhole/MH-1/up", "city/a/b/c/MH-1", ""] {
            assert!(!permissions.may_publish(topic), "{topic}");
        }
        assert!(!permissions.may_subscribe("city/d01/manhole/MH-1/up"), "nothing was allowed");
    }

    #[test]
    fn a_filter_must_lie_within_what_is_allowed() {
        let permissions = permissions(&[], &["city/+/+/{account}/down/#", "time/+"]);
        for filter in [
            "city/d01/manhole/MH-1/down",
            "city/+/+/MH-1/down/#",
            "city/+/+/MH-1/down/+/a",
            "$share/group/city/+/+/MH-1/down/+",
            "time/utc",
            "time/+",
        ] {
            assert!(permissions.may_subscribe(filter), "{filter}");
        }
        for filter in ["#", "city/#", "city/+/+/+/down/#", "city/+/+/MH-2/down", "time/#", "time", "$share/group/#"] {
            assert!(!permissions.may_subscribe(filter), "{filter}");
        }
    }

    #[test]
    fn everything_is_everything() {
        let permissions = Rights::everything().of("anybody");
        assert!(permissions.may_publish("$sys/1/thing/post") && permissions.may_subscribe("#"));
        assert!(permissions.may_subscribe("$share/g/a/+"));
    }

    #[test]
    fn patterns_and_names_that_could_reach_further_are_refused() {
        for pattern in ["", "a/#/b", "a#", "+a", "{device}/a", "a/x{account}", "a\0"] {
            assert!(TopicPattern::parse(pattern).is_err(), "{pattern}");
        }
        for name in ["", "+", "#", "a/b", "a:b", "a b", "$a", "a\n", &"x".repeat(129)] {
            assert!(!is_account_name(name), "{name:?}");
        }
        assert!(is_account_name("MH-000123") && is_account_name("井盖-7"));
    }
}

//! wip
use super::*;
use crate::document::{Node, Problems};
/// wip
pub fn parse_profile(_file: &str, _node: &Node, _problems: &Problems) -> Option<Profile> {
    None
}
/// wip
pub fn detector_rule_names() -> &'static [&'static str] {
    &[]
}

//! The shipped profiles by their names.

use std::path::Path;
use std::sync::OnceLock;

use kerbside_model::document::Problems;
use kerbside_model::profile::{Layer, Profile, Shelf, parse_profile};

/// All of them: they may extend one another.
fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles");
        let (mut shelf, problems) = (Shelf::default(), Problems::default());
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if file.ends_with(".yaml") {
                shelf.add(Layer::Shipped, &file, &std::fs::read_to_string(&path).unwrap(), &problems);
            }
        }
        shelf
    })
}

pub(crate) fn profile(name: &str) -> Profile {
    let (shelf, problems) = (shelf(), Problems::default());
    let document = shelf.documents().iter().find(|document| document.name == name);
    let document = document.unwrap_or_else(|| panic!("there is no profile {name}"));
    let node = shelf.resolved(document, &problems);
    let profile = node.and_then(|node| parse_profile(&document.file, &node, &problems));
    profile.unwrap_or_else(|| panic!("{name} does not parse: {:?}", problems.into_sorted()))
}

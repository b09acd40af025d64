//! The device profiles that the binary carries.
//!
//! Turns `device-profiles/*.yaml` of the repository into text inside the executable (the list is written by
//! `build.rs`), so that one file is all that a box in a street cabinet needs. Nothing survives a crash and there are
//! no metrics: it is constant data.

/// File name and text of every shipped profile, by file name.
pub const PROFILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Folder that problems in shipped profiles are reported under.
pub const FOLDER: &str = "device-profiles";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_profile_of_the_folder_is_carried_as_it_stands_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles");
        let mut expected = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                expected.insert((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
        let carried: BTreeSet<(String, String)> =
            PROFILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(carried, expected);
    }
}

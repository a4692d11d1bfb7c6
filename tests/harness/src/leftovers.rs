//! Removes what labs of killed processes left behind: names, processes, scratch directories.

use std::fs;
use std::path::Path;

use crate::namespace::{NAMED, remove_named};

/// Every name that a lab makes starts with this, then the process id of its maker.
const PREFIX: &str = "vdlab-";

/// The start of all names that this process makes for the lab `name`.
pub(crate) fn own_prefix(name: &str) -> String {
    format!("{PREFIX}{}-{name}", std::process::id())
}

/// Removes all that belongs to processes which no longer live.
pub(crate) fn remove() {
    for name in abandoned(Path::new(NAMED)) {
        remove_named(&name, None);
    }
    let scratch = std::env::temp_dir();
    for name in abandoned(&scratch) {
        let _ = fs::remove_dir_all(scratch.join(name));
    }
}

/// Names of this lab's kind in `directory` whose maker is dead.
fn abandoned(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| maker(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
        .collect()
}

/// The process id in one of our names, or nothing when the name is somebody else's.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_lab_have_a_maker() {
        assert_eq!(maker("vdlab-42-nat-client"), Some(42));
        assert_eq!(maker(&own_prefix("x")), Some(std::process::id()));
        for other in ["vdlab-", "vdlab-x-nat", "docker-42", "42", ""] {
            assert_eq!(maker(other), None, "{other:?}");
        }
    }
}

//! The configuration file that the daemon was given: whether it has changed since it was applied last, and
//! what it would take back of what was committed by other ways since.

use crate::model::{Document, named, taken_back};
use crate::store::{Change, Draft, Found, Store, StoreError, Tree};
use std::path::PathBuf;
use std::sync::Arc;

/// Where the store remembers the text that was applied last.
const FILE_MARK: &[u8] = b"configuration-file";

/// A configuration file.
#[derive(Clone, Debug)]
pub struct GivenFile {
    /// What is in it.
    pub document: Document,
    /// Its text, to know it by.
    pub text: String,
    /// Its name, for the history.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl GivenFile {
    /// What the history says of a revision that it makes.
    pub fn comment(&self) -> String {
        format!("configuration file {}", self.name)
    }
}

/// What the store knows of a file.
#[derive(Debug)]
pub(crate) enum Known {
    /// It says what it said when it was applied last.
    Unchanged,
    /// It says something else than this did, where anything was applied before.
    Changed(Option<Box<Document>>),
}

/// Compares a file with what was applied last. Another text that means the same is no change.
pub(crate) fn known(store: &Store, file: &GivenFile) -> Result<Known, StoreError> {
    let Some(mark) = store.records().read(Tree::Marks, FILE_MARK)? else {
        return Ok(Known::Changed(None));
    };
    if mark == file.text.as_bytes() {
        return Ok(Known::Unchanged);
    }
    // A text of an older program may mean nothing to this one: then it is as if there was none.
    let text = String::from_utf8(mark).unwrap_or_default();
    let before = Document::parse(&text, "").ok();
    if before.as_ref() == Some(&file.document) {
        return Ok(Known::Unchanged);
    }
    Ok(Known::Changed(before.map(Box::new)))
}

/// Remembers a text as applied.
pub(crate) fn remember(store: &Store, text: &str) -> Result<(), StoreError> {
    let value = text.as_bytes().to_vec();
    store.records().write(&[Change::Put { tree: Tree::Marks, key: FILE_MARK.to_vec(), value }])
}

/// What is said when a changed file takes back what was committed by other ways since it was applied last.
/// `revision` is the one that it made.
pub(crate) fn takes_back(
    before: Option<&Document>,
    running: &Document,
    file: &GivenFile,
    revision: u64,
) -> Option<String> {
    let found = taken_back(before?, running, &file.document);
    if found.is_empty() {
        return None;
    }
    let both = if file.document.peer.is_some() {
        ", and what both directors share of it on the other one, too"
    } else {
        ""
    };
    Some(format!(
        "revision {revision}, {}, takes back what was committed by other ways since the file was applied \
         last{both}: {}; `viaduct rollback {}` goes back",
        file.comment(),
        named(&found),
        revision.saturating_sub(1)
    ))
}

/// Commits the file of a daemon that starts, unless it is unchanged: then what was committed after it
/// stands. What there is to say of it.
pub(crate) fn commit_at_start(
    store: &mut Store,
    found: &mut Found,
    file: GivenFile,
    now: u64,
) -> Result<Option<String>, StoreError> {
    let before = match known(store, &file)? {
        Known::Unchanged if found.document.is_some() => {
            remember(store, &file.text)?;
            return Ok(None);
        }
        Known::Unchanged => None,
        Known::Changed(before) => before,
    };
    let document = Arc::new(file.document.clone());
    let mut said = None;
    if found.document.as_ref() != Some(&document) {
        let comment = file.comment();
        let draft = Draft { author: "viaduct run".to_owned(), comment, confirm_within: None };
        let revision = store.commit(&document, &draft, now)?;
        let running = found.document.replace(document).unwrap_or_default();
        said = takes_back(before.as_deref(), &running, &file, revision.number);
        found.revision = revision.number;
        found.unconfirmed = None;
    }
    remember(store, &file.text)?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scheduler_name;

    fn file(text: &str) -> GivenFile {
        let document = Document::parse(text, "lb.toml").expect("is good");
        GivenFile { document, text: text.into(), name: "lb.toml".into(), path: PathBuf::new() }
    }

    fn web(scheduler: &str) -> String {
        format!(
            "[[service]]\nname = \"web\"\naddress = \"192.0.2.1:80\"\nscheduler = \"{scheduler}\"\n"
        )
    }

    /// Starts with a file: what is said, and which scheduler runs.
    fn start(directory: &std::path::Path, text: &str) -> (Option<String>, String) {
        let (mut store, mut found) = Store::open(directory, 1).expect("opens");
        let said = commit_at_start(&mut store, &mut found, file(text), 1).expect("works");
        let running = found.document.expect("something runs");
        (said, scheduler_name(running.services[0].scheduler).to_owned())
    }

    /// Somebody else commits.
    fn commit(directory: &std::path::Path, text: &str) {
        let (mut store, _) = Store::open(directory, 1).expect("opens");
        let draft = Draft { author: "root".into(), comment: "other".into(), confirm_within: None };
        store.commit(&Arc::new(file(text).document), &draft, 1).expect("works");
    }

    #[test]
    fn a_file_counts_when_it_has_changed_and_says_what_it_takes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        assert_eq!(start(at, &web("rr")), (None, "rr".into()));
        commit(at, &web("wlc"));
        assert_eq!(start(at, &web("rr")), (None, "wlc".into()), "unchanged");
        assert_eq!(start(at, &format!("# a remark\n{}", web("rr"))), (None, "wlc".into()));
        let more = web("sh").replace("web", "more").replace("192.0.2.1", "192.0.2.2");
        let (said, runs) = start(at, &format!("{}{more}", web("rr")));
        assert_eq!(runs, "rr");
        let said = said.expect("something");
        let wanted = "revision 3, configuration file lb.toml, takes back";
        assert!(said.starts_with(wanted) && said.contains("scheduler wlc -> rr"), "{said}");
        assert!(said.ends_with("`viaduct rollback 2` goes back"), "{said}");
        assert_eq!(start(at, &web("wrr")), (None, "wrr".into()), "nothing came between");
    }

    #[test]
    fn what_was_remembered_and_means_nothing_any_more_is_as_good_as_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        commit(directory.path(), &web("rr"));
        let (store, _) = Store::open(directory.path(), 1).expect("opens");
        remember(&store, "what = \"is this\"").expect("works");
        drop(store);
        assert_eq!(start(directory.path(), &web("wlc")), (None, "wlc".into()));
    }
}

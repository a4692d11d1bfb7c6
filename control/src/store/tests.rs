use super::*;
use crate::model::{Method, Protocol, Real, Service, VirtualAddress};
use std::fs;
use std::net::SocketAddr;

fn open(directory: &Path) -> (Store, Found) {
    Store::open(directory, 1000).expect("opens")
}

fn document(reals: u8) -> Arc<Document> {
    let address = VirtualAddress::Socket {
        protocol: Protocol::Tcp,
        address: SocketAddr::from(([192, 0, 2, 1], 80)),
    };
    let mut service = Service::new(address, Method::Nat);
    service.reals = (1..=reals).map(|n| Real::new(SocketAddr::from(([10, 0, 0, n], 80)))).collect();
    Arc::new(Document { services: vec![Arc::new(service)], ..Document::default() })
}

fn draft(comment: &str) -> Draft {
    Draft { author: "root".into(), comment: comment.into(), confirm_within: None }
}

#[test]
fn a_new_directory_is_empty_and_a_commit_is_found_again() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, found) = open(place.path());
    assert!(found.document.is_none() && found.revision == 0 && found.warnings.is_empty());
    store.commit(&document(1), &draft("first"), 5).expect("commits");
    store.commit(&document(2), &draft("second"), 6).expect("commits");
    drop(store);
    let (store, found) = open(place.path());
    assert_eq!((found.document, found.revision), (Some(document(2)), 2));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let history: Vec<_> =
        store.history().iter().map(|r| (r.number, r.time, r.comment.as_str())).collect();
    assert_eq!(history, [(1, 5, "first"), (2, 6, "second")]);
    assert_eq!(store.revision(1).expect("kept").document().expect("reads"), *document(1));
    assert!(matches!(store.revision(9), Err(StoreError::NoRevision(9))));
}

#[test]
fn one_daemon_for_each_directory() {
    let place = tempfile::tempdir().expect("made");
    let first = open(place.path());
    assert!(matches!(Store::open(place.path(), 0), Err(StoreError::InUse(_))));
    drop(first);
    open(place.path());
}

#[test]
fn a_burst_of_edits_is_one_revision() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.commit(&document(0), &draft("base"), 1).expect("commits");
    for n in 0..50 {
        let patch = Patch::between(&document(n), &document(n + 1));
        assert_eq!(store.append(&[patch], "root", "ipvsadm").expect("appends"), 2);
    }
    assert_eq!(store.journal_length(), 50);
    assert_eq!(store.settle(7).expect("settles").map(|info| info.number), Some(2));
    assert_eq!(store.settle(8).expect("settles"), None);
    drop(store);
    let (store, found) = open(place.path());
    assert_eq!((found.document, found.revision), (Some(document(50)), 2));
    assert_eq!(store.history().len(), 2);
}

#[test]
fn edits_in_the_journal_survive_and_become_a_revision_on_opening() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.commit(&document(0), &draft("base"), 1).expect("commits");
    for n in 0..3 {
        store
            .append(&[Patch::between(&document(n), &document(n + 1))], "root", "")
            .expect("appends");
    }
    drop(store);
    let (mut store, found) = open(place.path());
    assert_eq!((found.document, found.revision), (Some(document(3)), 2));
    assert!(!place.path().join("revisions/journal").exists());
    store.commit(&document(9), &draft("next"), 1).expect("commits");
    assert_eq!(store.history().last().map(|info| info.number), Some(3));
}

#[test]
fn a_journal_torn_at_any_byte_loses_only_what_was_torn() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.commit(&document(0), &draft("base"), 1).expect("commits");
    let journal = place.path().join("revisions/journal");
    let mut acknowledged = Vec::new();
    for n in 0..3 {
        store
            .append(&[Patch::between(&document(n), &document(n + 1))], "root", "")
            .expect("appends");
        acknowledged.push(fs::metadata(&journal).expect("there").len());
    }
    drop(store);
    let whole = fs::read(&journal).expect("there");
    for length in 0..=whole.len() {
        fs::write(&journal, &whole[..length]).expect("written");
        let left = Journal::recover(&journal, 2).expect("reads");
        let kept = acknowledged.iter().filter(|end| **end <= length as u64).count();
        assert_eq!(left.map_or(0, |left| left.patches.len()), kept, "cut at {length}");
    }
}

#[test]
fn a_journal_of_another_revision_is_ignored() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.append(&[Patch::between(&document(0), &document(1))], "root", "").expect("appends");
    let journal = place.path().join("revisions/journal");
    let stale = fs::read(&journal).expect("there");
    store.commit(&document(2), &draft(""), 1).expect("commits");
    drop(store);
    fs::write(&journal, stale).expect("written");
    let (_, found) = open(place.path());
    assert_eq!((found.document, found.revision), (Some(document(2)), 2));
}

#[test]
fn a_damaged_revision_is_set_aside_and_its_copy_used() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.commit(&document(1), &draft("first"), 1).expect("commits");
    store.commit(&document(2), &draft("second"), 2).expect("commits");
    drop(store);
    let path = place.path().join("revisions/00000002.toml");
    let mut bytes = fs::read(&path).expect("there");
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    fs::write(&path, bytes).expect("written");
    let (_, found) = open(place.path());
    assert_eq!((found.document, found.revision), (Some(document(2)), 2));
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
    assert!(place.path().join("revisions/00000002.bad").exists());
}

#[test]
fn without_copies_the_last_whole_revision_is_used() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.commit(&document(1), &draft("first"), 1).expect("commits");
    store.commit(&document(2), &draft("second"), 2).expect("commits");
    drop(store);
    fs::remove_dir_all(place.path().join("records")).expect("removed");
    fs::write(place.path().join("revisions/00000002.toml"), "# {}\n").expect("written");
    let (_, found) = open(place.path());
    assert_eq!((found.document, found.revision), (Some(document(1)), 1));
}

#[test]
fn confirmation_is_remembered() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.commit(&document(1), &draft("first"), 1).expect("commits");
    assert!(matches!(store.confirm(), Err(StoreError::NothingToConfirm)));
    let waiting = Draft { confirm_within: Some(60), ..draft("risky") };
    store.commit(&document(2), &waiting, 100).expect("commits");
    drop(store);
    let (mut store, found) = open(place.path());
    let standing = found.unconfirmed.expect("waits").standing;
    assert_eq!(standing, Standing::Unconfirmed { until: 160, within: 60 });
    store.confirm().expect("confirms");
    drop(store);
    let (_, found) = open(place.path());
    assert_eq!((found.unconfirmed, found.document), (None, Some(document(2))));
}

#[test]
fn old_revisions_are_pruned() {
    let place = tempfile::tempdir().expect("made");
    let mut warnings = Vec::new();
    let (mut revisions, _) = Revisions::open(place.path(), &mut warnings).expect("opens");
    for number in 1..=5 {
        let revision = Revision::new(number, String::new(), &draft(""), 0);
        revisions.write(&revision).expect("writes");
    }
    assert_eq!(revisions.prune(2), [1, 2, 3]);
    assert!(matches!(revisions.read(3), Err(StoreError::NoRevision(3))));
    assert!(revisions.read(4).is_ok());
}

fn event(store: &Store, n: u8) {
    let put = Change::Put { tree: Tree::Events, key: vec![n], value: vec![n; 100] };
    store.records().write(&[put]).expect("writes");
}

fn events(store: &Store) -> usize {
    store.records().last(Tree::Events, 1000).expect("reads").len()
}

/// Every kind of damage to sled's files: the store opens, says so, and has what it had at the last
/// export or later. The configuration is untouched.
#[test]
fn a_damaged_database_is_replaced_by_its_export() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("database overwritten", |records| {
            let db = records.join("db");
            let mut bytes = fs::read(&db).expect("there");
            bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
            fs::write(db, bytes).expect("written");
        }),
        ("database cut to a tenth", |records| {
            let db = fs::OpenOptions::new().write(true).open(records.join("db")).expect("there");
            let length = db.metadata().expect("there").len();
            db.set_len(length / 10).expect("cut");
        }),
        ("database zeroed", |records| {
            let length = fs::metadata(records.join("db")).expect("there").len();
            fs::write(records.join("db"), vec![0; length as usize]).expect("written");
        }),
        ("snapshots emptied", |records| {
            for entry in fs::read_dir(records).expect("there") {
                let path = entry.expect("there").path();
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap")) {
                    fs::write(path, b"").expect("written");
                }
            }
        }),
        ("folder gone", |records| fs::remove_dir_all(records).expect("removed")),
    ];
    for (name, damage) in damages {
        let place = tempfile::tempdir().expect("made");
        let (mut store, _) = open(place.path());
        store.commit(&document(3), &draft(""), 1).expect("commits");
        (0..20).for_each(|n| event(&store, n));
        store.export().expect("exports");
        event(&store, 20);
        drop(store);
        damage(&place.path().join("records"));
        let (store, found) = open(place.path());
        assert_eq!(found.document, Some(document(3)), "{name}");
        assert!(events(&store) >= 20, "{name}: {} events", events(&store));
        assert!(store.records().is_durable(), "{name}");
        drop(store);
        let (store, found) = open(place.path());
        assert!(events(&store) >= 20 && found.warnings.is_empty(), "{name} again");
    }
}

/// sled's own threads, or those of a daemon that is just ending, hold the file a moment longer.
#[test]
#[allow(clippy::disallowed_methods, reason = "the lock is held for a while")]
fn a_database_that_is_still_being_closed_is_waited_for_and_not_taken_for_damaged() {
    use nix::fcntl::{Flock, FlockArg};
    let place = tempfile::tempdir().expect("made");
    let (store, _) = open(place.path());
    event(&store, 1);
    drop(store);
    let file = fs::File::open(place.path().join("records/db")).expect("there");
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("free after closing");
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| open(place.path()));
        // Too short on a busy machine, it makes the test easier, not fail.
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(lock);
        let (store, found) = opening.join().expect("opens");
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        assert_eq!(events(&store), 1);
    });
    let file = fs::File::open(place.path().join("records/db")).expect("there");
    let _lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("free after closing");
    assert!(matches!(Store::open(place.path(), 0), Err(StoreError::InUse(_))));
}

#[test]
fn a_backup_comes_back_whole_or_not_at_all() {
    let place = tempfile::tempdir().expect("made");
    let (mut store, _) = open(place.path());
    store.commit(&document(3), &draft(""), 1).expect("commits");
    (0..5).for_each(|n| event(&store, n));
    let bytes = store.backup().expect("made");
    let other = tempfile::tempdir().expect("made");
    let (mut fresh, _) = open(other.path());
    let backup = Backup::read(&bytes).expect("reads");
    fresh.restore_records(&backup).expect("restores");
    assert_eq!(events(&fresh), 5);
    assert_eq!(Document::parse(&backup.configuration, "b").expect("reads"), *document(3));
    assert_eq!(fresh.history().len(), 0, "committing it is the caller's");
    for at in (0..bytes.len()).step_by(11) {
        assert!(Backup::read(&bytes[..at]).is_err(), "cut at {at}");
        let mut bent = bytes.clone();
        bent[at] ^= 4;
        assert!(Backup::read(&bent).is_err(), "bent at {at}");
    }
}

/// Runs with a file system of 3 MB of its own, which nobody else sees and which goes with the thread.
fn with_small_disk(work: impl FnOnce(&Path) + Send + 'static) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let place = tempfile::tempdir().expect("made");
    let path = place.path().to_owned();
    let thread = std::thread::Builder::new().spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("needs root: CAP_SYS_ADMIN to mount");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        mount(Some("disk"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=3m"))
            .expect("mounts");
        work(&path);
    });
    thread.expect("started").join().expect("passes");
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    with_small_disk(|place| {
        let (mut store, _) = open(place);
        store.commit(&document(1), &draft("fits"), 1).expect("commits");
        let filler = place.join("filler");
        let mut file = fs::File::create(&filler).expect("made");
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        let refused = store.commit(&document(200), &draft("does not fit"), 2);
        assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
        let patch = Patch::between(&document(1), &document(200));
        let refused = store.append(&[patch], "root", "does not fit");
        assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
        assert_eq!(store.history().len(), 1);
        assert_eq!(store.revision(1).expect("kept").document().expect("reads"), *document(1));
        drop(file);
        fs::remove_file(&filler).expect("removed");
        store.commit(&document(3), &draft("fits again"), 3).expect("commits");
        drop(store);
        let (store, found) = open(place);
        assert_eq!((found.document, found.revision), (Some(document(3)), 2));
        assert_eq!(store.history().len(), 2);
    });
}

#[test]
fn a_disk_that_is_full_from_the_start_is_an_error_and_no_panic() {
    with_small_disk(|place| {
        let (mut store, _) = open(place);
        store.commit(&document(1), &draft(""), 1).expect("commits");
        drop(store);
        let mut file = fs::File::create(place.join("filler")).expect("made");
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        // The configuration is there to forward with, whatever becomes of the records.
        let (mut store, found) = open(place);
        assert_eq!(found.document, Some(document(1)));
        assert!(store.commit(&document(200), &draft(""), 2).is_err());
    });
}

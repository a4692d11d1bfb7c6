//! The daemon's configuration file: has it changed, and is it whole?
//!
//! Editors and scripts write a file piece by piece. A change counts once nobody writes to the file any more,
//! as inotify tells, and the file has been left alone for a moment.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How long a changed file must have been left alone.
const QUIET: Duration = Duration::from_secs(1);

/// What tells one state of the file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { inode: metadata.ino(), size: metadata.size(), modified })
    }
}

/// The file as it was seen last. `None` stands for a file that is not there.
pub(super) struct ConfigFile {
    path: PathBuf,
    writers: Writers,
    /// What was last reported as changed, or what the daemon started with.
    known: Option<Stamp>,
    seen: Option<Stamp>,
    since: Instant,
}

impl ConfigFile {
    /// Takes the file's present state as known.
    pub fn new(path: &Path, now: Instant) -> Self {
        let known = Stamp::of(path);
        let path = path.to_owned();
        Self { writers: Writers::of(&path), path, known, seen: known, since: now }
    }

    /// Whether the file has changed since this was last true; `None` while it is being written.
    pub fn has_changed(&mut self, now: Instant) -> Option<bool> {
        let stamp = Stamp::of(&self.path);
        if stamp.map(|stamp| stamp.inode) != self.seen.map(|stamp| stamp.inode) {
            self.writers = Writers::of(&self.path);
        }
        if self.writers.are_writing() || stamp != self.seen {
            (self.seen, self.since) = (stamp, now);
            return None;
        }
        if stamp == self.known {
            return Some(false);
        }
        if now < self.since + QUIET {
            return None;
        }
        self.known = stamp;
        Some(true)
    }
}

/// Whether anybody writes to a file. Without inotify only the quiet moment protects from half a file.
struct Writers {
    watch: Option<(Inotify, WatchDescriptor)>,
    writing: bool,
}

impl Writers {
    fn of(path: &Path) -> Self {
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
            let watched = inotify.add_watch(path, events)?;
            Ok::<_, nix::Error>((inotify, watched))
        };
        Self { watch: watch().ok(), writing: false }
    }

    fn are_writing(&mut self) -> bool {
        let Some((inotify, watched)) = &self.watch else { return false };
        // An error says that there are no more events.
        while let Ok(events) = inotify.read_events() {
            for event in events {
                // Events that the kernel had no room for may have been the last ones.
                let lost = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                if lost || event.wd == *watched {
                    self.writing = event.mask.contains(AddWatchFlags::IN_MODIFY);
                }
            }
        }
        self.writing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Looks every quarter of a second, for this many seconds after `start`.
    fn looks(file: &mut ConfigFile, start: &mut Instant, seconds: u64) -> Vec<Option<bool>> {
        let looks = (0..4 * seconds).map(|_| {
            *start += Duration::from_millis(250);
            file.has_changed(*start)
        });
        looks.collect()
    }

    #[tokio::test]
    async fn a_file_counts_as_changed_once_its_writer_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("viaduct.toml");
        std::fs::write(&path, "old").unwrap();
        let mut now = Instant::now();
        let mut file = ConfigFile::new(&path, now);
        assert_eq!(looks(&mut file, &mut now, 1), [Some(false); 4]);
        let mut writer = std::fs::File::create(&path).unwrap();
        for piece in ["half ", "a file ", "and all of it"] {
            writer.write_all(piece.as_bytes()).unwrap();
            assert_eq!(looks(&mut file, &mut now, 5), [None; 20], "{piece}");
        }
        drop(writer);
        let mut seen = looks(&mut file, &mut now, 2);
        seen.retain(Option::is_some);
        assert_eq!(seen.iter().filter(|look| **look == Some(true)).count(), 1, "{seen:?}");
        assert_eq!(seen.first(), Some(&Some(true)));
    }

    #[tokio::test]
    async fn a_file_that_replaces_another_counts_after_a_quiet_moment() {
        let directory = tempfile::tempdir().unwrap();
        let (path, new) = (directory.path().join("viaduct.toml"), directory.path().join("new"));
        std::fs::write(&path, "old").unwrap();
        let mut now = Instant::now();
        let mut file = ConfigFile::new(&path, now);
        std::fs::write(&new, "new").unwrap();
        std::fs::rename(&new, &path).unwrap();
        let expected = [None, None, None, None, Some(true), Some(false), Some(false), Some(false)];
        assert_eq!(looks(&mut file, &mut now, 2), expected);
        // Writers of the new file are noticed as those of the old one were.
        let mut writer = std::fs::File::options().append(true).open(&path).unwrap();
        writer.write_all(b"er").unwrap();
        assert_eq!(looks(&mut file, &mut now, 5), [None; 20]);
    }
}

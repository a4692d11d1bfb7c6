//! The thread that owns the store: everything that waits for a disk happens here.

use crate::events::{Event, StoreEvent};
use crate::inbox::Message;
use crate::record::Record;
use crate::state::{LINEAGE_MARK, StoreCommand};
use crate::store::{Change, RevisionInfo, Standing, Store, StoreError, Tree};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// How often the records are exported even without a commit.
const EXPORT_EVERY: Duration = Duration::from_secs(3600);

/// Quiet time after a commit before the records are exported: a burst is exported once.
const EXPORT_AFTER: Duration = Duration::from_secs(5);

/// Edits written with one wait for the disk.
const GROUP: usize = 256;

/// Events that the store keeps.
const KEPT_EVENTS: u64 = 20_000;

/// Something to do with the store that is no command of the loop: reading, backups.
type Task = Box<dyn FnOnce(&mut Store) + Send>;

enum Work {
    Command(StoreCommand),
    Task(Task),
    Close,
}

/// The way to the store's thread.
#[derive(Clone)]
pub struct Keeper {
    work: Sender<Work>,
}

impl Keeper {
    /// Starts the thread. Its queue is not bounded, because the loop bounds what is in flight.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        store: Store,
        events: mpsc::Sender<Message>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (work, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || Keeping { store, events, refusing: None, dirty: false }.run(&queue))?;
        Ok((Self { work }, thread))
    }

    /// Gives a command.
    pub(crate) fn command(&self, command: StoreCommand) {
        // The thread ends last, when the loop has ended.
        let _ = self.work.send(Work::Command(command));
    }

    /// Does something with the store, and yields what came of it.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn with<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, result) = oneshot::channel();
        let task = move |store: &mut Store| {
            // A caller that has gone away does not want the answer.
            let _ = done.send(task(store));
        };
        self.work.send(Work::Task(Box::new(task))).map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)
    }

    /// Has the thread finish what it was told and end.
    pub(crate) fn close(&self) {
        let _ = self.work.send(Work::Close);
    }
}

struct Keeping {
    store: Store,
    events: mpsc::Sender<Message>,
    /// After a failure: why, until the loop has taken note.
    refusing: Option<String>,
    /// Whether something was committed since the last export.
    dirty: bool,
}

impl Keeping {
    fn run(mut self, queue: &Receiver<Work>) {
        loop {
            let wait = if self.dirty { EXPORT_AFTER } else { EXPORT_EVERY };
            match queue.recv_timeout(wait) {
                Ok(first) => {
                    let mut group = vec![first];
                    group.extend(queue.try_iter().take(GROUP - 1));
                    if self.work(group) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.export(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.settle();
        self.export();
    }

    /// Does a group of work, edits that follow one another with one wait for the disk. Whether it
    /// is time to end.
    fn work(&mut self, group: Vec<Work>) -> bool {
        let mut edits: Vec<StoreCommand> = Vec::new();
        let mut records: Vec<Arc<Record>> = Vec::new();
        let mut ended = false;
        for work in group {
            match work {
                Work::Command(command @ StoreCommand::Append { .. }) => edits.push(command),
                Work::Command(StoreCommand::Keep(record)) => records.push(record),
                Work::Command(command) => {
                    self.append(&mut edits);
                    self.command(command);
                }
                Work::Task(task) => {
                    self.append(&mut edits);
                    self.keep(&mut records);
                    task(&mut self.store);
                }
                Work::Close => ended = true,
            }
        }
        self.append(&mut edits);
        self.keep(&mut records);
        ended
    }

    fn append(&mut self, edits: &mut Vec<StoreCommand>) {
        let mut last = None;
        let mut patches = Vec::new();
        for edit in edits.drain(..) {
            if let StoreCommand::Append { version, patch, author, comment } = edit {
                patches.push(patch);
                last = Some((version, author, comment));
            }
        }
        let Some((version, author, comment)) = last else { return };
        if let Some(error) = self.refusing.clone() {
            return self.tell(Event::Store(StoreEvent::NotStored { version, error }));
        }
        match self.store.append(&patches, &author, &comment) {
            Ok(number) => {
                let revision = RevisionInfo {
                    number,
                    author,
                    time: unix_now(),
                    comment,
                    standing: Standing::Committed,
                };
                self.tell(Event::Store(StoreEvent::Stored { version, revision, history: None }));
                if self.store.journal_length() >= crate::store::JOURNAL_LIMIT {
                    self.settle();
                }
            }
            Err(error) => self.refuse(version, &error),
        }
    }

    fn command(&mut self, command: StoreCommand) {
        match command {
            StoreCommand::Commit { version, document, draft } => {
                if let Some(error) = self.refusing.clone() {
                    return self.tell(Event::Store(StoreEvent::NotStored { version, error }));
                }
                let committed = self.store.commit(&document, &draft, unix_now());
                self.report(version, committed);
            }
            StoreCommand::Confirm { version } => {
                if let Some(error) = self.refusing.clone() {
                    return self.tell(Event::Store(StoreEvent::NotStored { version, error }));
                }
                let confirmed = self.store.confirm();
                self.report(version, confirmed);
            }
            StoreCommand::Settle => self.settle(),
            StoreCommand::Resume => self.refusing = None,
            StoreCommand::Lineage(value) => {
                let key = LINEAGE_MARK.to_vec();
                self.write(Change::Put { tree: Tree::Marks, key, value });
            }
            StoreCommand::Maintenance { key, value } => {
                let tree = Tree::Maintenance;
                let change = match value {
                    Some(value) => Change::Put { tree, key, value },
                    None => Change::Remove { tree, key },
                };
                self.write(change);
            }
            // Gathered by the caller.
            StoreCommand::Append { .. } | StoreCommand::Keep(_) => {}
        }
    }

    fn write(&self, change: Change) {
        if let Err(error) = self.store.records().write(&[change]) {
            self.tell(trouble(&error));
        }
    }

    fn report(&mut self, version: u64, done: Result<RevisionInfo, StoreError>) {
        match done {
            Ok(revision) => {
                self.dirty = true;
                self.tell(Event::Store(StoreEvent::Stored {
                    version,
                    revision,
                    history: Some(self.history()),
                }));
            }
            Err(error) => self.refuse(version, &error),
        }
    }

    fn settle(&mut self) {
        match self.store.settle(unix_now()) {
            Ok(None) => {}
            Ok(Some(revision)) => {
                self.dirty = true;
                self.tell(Event::Store(StoreEvent::Stored {
                    version: 0,
                    revision,
                    history: Some(self.history()),
                }));
            }
            Err(error) => self
                .tell(Event::Store(StoreEvent::NotStored { version: 0, error: error.to_string() })),
        }
    }

    fn refuse(&mut self, version: u64, error: &StoreError) {
        let error = error.to_string();
        self.refusing = Some(error.clone());
        self.tell(Event::Store(StoreEvent::NotStored { version, error }));
    }

    fn history(&self) -> Arc<Vec<RevisionInfo>> {
        Arc::new(self.store.history().to_vec())
    }

    /// Events are kept as far as the disk takes them: losing some is no reason to stop.
    fn keep(&mut self, records: &mut Vec<Arc<Record>>) {
        let mut changes = Vec::new();
        for record in records.drain(..) {
            let Ok(value) = serde_json::to_vec(&*record) else { continue };
            let key = record.sequence.to_be_bytes().to_vec();
            changes.push(Change::Put { tree: Tree::Events, key, value });
            if let Some(old) = record.sequence.checked_sub(KEPT_EVENTS) {
                let key = old.to_be_bytes().to_vec();
                changes.push(Change::Remove { tree: Tree::Events, key });
            }
        }
        if !changes.is_empty()
            && let Err(error) = self.store.records().write_soon(&changes)
        {
            tracing::warn!(%error, "events were not kept");
        }
    }

    fn export(&mut self) {
        self.dirty = false;
        if let Err(error) = self.store.export() {
            self.tell(trouble(&error));
        }
    }

    fn tell(&self, event: Event) {
        // The loop reads until this thread has ended.
        let _ = self.events.blocking_send(Message::Event(event));
    }
}

fn trouble(error: &StoreError) -> Event {
    Event::Noticed {
        kind: crate::record::Kind::System,
        severity: crate::record::Severity::Error,
        text: format!("the store is in trouble: {error}"),
    }
}

#[allow(clippy::disallowed_methods)] // the store's thread stamps what it writes
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

//! Everything that console may call.

mod accounts;
mod connections;
mod file;
mod pair;

use crate::engine::Keeper;
use crate::events::{ConfigurationEvent, DrainEvent, EditEvent, Event};
use crate::health::task::{CheckView, Checker};
use crate::inbox::{Ask, Message};
use crate::ipvs;
use crate::model::{Document, PersistentClients};
use crate::record::Record;
use crate::state::Packets;
use crate::state::{Outcome, Refusal, Snapshot, State, Ticket};
use crate::store::{Backup, Revision, RevisionInfo, StoreError};
use crate::tasks::{Mastership, Replication, orders};
use crate::time::{TimeKeeper, TimeView};
use crate::view::{DropView, ExplanationView, InterfaceView, ServiceView, StatusView};
use arc_swap::ArcSwap;
use dataplane::packet_path::View;
use dataplane::packet_path::explain::{Question, explain};
use dataplane::worker::Dataplane;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Tries of an edit that others keep changing the document under.
const EDIT_TRIES: usize = 64;

/// The way to the running engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) listeners: broadcast::Sender<Arc<Record>>,
    pub(crate) follow: watch::Receiver<Arc<Document>>,
    pub(crate) keeper: Keeper,
    /// The configuration file that the daemon was given.
    pub(crate) file: Option<PathBuf>,
    pub(crate) dataplane: Arc<Dataplane>,
    pub(crate) checker: Checker,
    pub(crate) clocks: TimeKeeper,
    pub(crate) mastership: Mastership,
    pub(crate) replication: Replication,
}

/// Why an edit was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError<E> {
    /// The edit itself said no.
    #[error("{0}")]
    Edit(E),
    /// The engine did.
    #[error("{0}")]
    Refused(Refusal),
}

impl Handle {
    /// The configuration as it stands.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The packet workers, for numbers: connections, drops, traffic.
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Record>> {
        self.listeners.subscribe()
    }

    /// The running document, as it changes: for whoever lives by it.
    pub fn follow(&self) -> watch::Receiver<Arc<Document>> {
        self.follow.clone()
    }

    /// Tells the engine that something happened.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn send(&self, event: Event) -> Result<(), Refusal> {
        self.inbox.send(Message::Event(event)).await.map_err(|_| ended())
    }

    /// Looks at the state between two events.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, &dyn Packets) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (seen, answer) = oneshot::channel();
        let query = Box::new(move |state: &State, packets: &dyn Packets| {
            // A caller that has gone away does not want the answer.
            let _ = seen.send(look(state, packets));
        });
        self.inbox.send(Message::Query(query)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    async fn ask(
        &self,
        make: impl FnOnce(Ticket) -> Event + Send + 'static,
    ) -> Result<Outcome, Refusal> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask { make: Box::new(make), reply };
        self.inbox.send(Message::Ask(ask)).await.map_err(|_| ended())?;
        let outcome = answer.await.map_err(|_| ended())?;
        if let Outcome::Refused(refusal) = outcome { Err(refusal) } else { Ok(outcome) }
    }

    /// Makes a document the running one. `None` when it is already.
    ///
    /// # Errors
    /// When it is refused or cannot be stored; nothing has changed then.
    pub async fn apply(
        &self,
        document: Document,
        author: &str,
        comment: &str,
        confirm_within: Option<Duration>,
    ) -> Result<Option<RevisionInfo>, Refusal> {
        self.apply_onto(None, document, author, comment, confirm_within).await
    }

    /// Like [`Handle::apply`], but only if the configuration is still of the version `base`, which
    /// [`Snapshot::version`] tells.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when somebody changed it meanwhile; otherwise as [`Handle::apply`].
    pub async fn apply_onto(
        &self,
        base: Option<u64>,
        document: Document,
        author: &str,
        comment: &str,
        confirm_within: Option<Duration>,
    ) -> Result<Option<RevisionInfo>, Refusal> {
        let (author, comment) = (author.to_owned(), comment.to_owned());
        let document = Arc::new(document);
        let outcome = self.ask(move |ticket| {
            Event::Configuration(ConfigurationEvent::Applied {
                ticket,
                base,
                document,
                author,
                comment,
                confirm_within,
            })
        });
        Ok(revision_of(outcome.await?))
    }

    /// Changes the document: `change` is given the latest one, possibly more than once when others
    /// change it too. Edits that follow one another within two seconds become one revision.
    ///
    /// # Errors
    /// What `change` says, or that the engine refuses or cannot store it.
    pub async fn edit<T, E>(
        &self,
        author: &str,
        comment: &str,
        mut change: impl FnMut(&mut Document) -> Result<T, E>,
    ) -> Result<T, EditError<E>> {
        for _ in 0..EDIT_TRIES {
            let snapshot = self.snapshot();
            let mut document = Document::clone(&snapshot.head);
            let result = change(&mut document).map_err(EditError::Edit)?;
            let (author, comment) = (author.to_owned(), comment.to_owned());
            let (version, document) = (snapshot.version, Arc::new(document));
            let outcome = self.ask(move |ticket| {
                Event::Edit(EditEvent::Document { ticket, version, document, author, comment })
            });
            match outcome.await {
                Ok(_) => return Ok(result),
                Err(Refusal::Conflict) => {}
                Err(refusal) => return Err(EditError::Refused(refusal)),
            }
        }
        Err(EditError::Refused(Refusal::Conflict))
    }

    /// What IPVS answers. Pages of connections do not pass the engine.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn ipvs(&self, request: ipvs::Request, author: &str) -> Result<ipvs::Reply, Refusal> {
        if let ipvs::Request::Connections { cursor, limit } = request {
            let limit = limit.clamp(1, ipvs::MAX_PAGE);
            let page = crate::engine::page(&self.dataplane, cursor, limit);
            return Ok(ipvs::Reply::Connections(page));
        }
        let (request, author) = (Box::new(request), author.to_owned());
        match self
            .ask(move |ticket| Event::Edit(EditEvent::Ipvs { ticket, request, author }))
            .await?
        {
            Outcome::Ipvs(reply) => Ok(reply),
            Outcome::Committed(_) | Outcome::Done | Outcome::Confirmed(_) | Outcome::Refused(_) => {
                Ok(ipvs::Reply::Done)
            }
        }
    }

    /// Lets the revision that waits for it stand.
    ///
    /// # Errors
    /// When none waits, or the store does not take it.
    pub async fn confirm(&self) -> Result<Option<RevisionInfo>, Refusal> {
        Ok(revision_of(
            self.ask(|ticket| Event::Configuration(ConfigurationEvent::Confirmed { ticket }))
                .await?,
        ))
    }

    /// Goes back to a revision, or to the one before the last. What comes of it is a new revision.
    ///
    /// # Errors
    /// When there is none, or it is refused, or cannot be stored.
    pub async fn roll_back(
        &self,
        to: Option<u64>,
        author: &str,
    ) -> Result<Option<RevisionInfo>, Refusal> {
        let to = match to {
            Some(number) => number,
            None => {
                let history = self.snapshot().history.clone();
                let before = history.iter().rev().nth(1).map(|info| info.number);
                before.ok_or(Refusal::NoRevision(0))?
            }
        };
        let revision = self.revision(to).await?;
        let document = revision.document().map_err(|error| Refusal::Store(error.to_string()))?;
        let (document, author) = (Arc::new(document), author.to_owned());
        let outcome = self.ask(move |ticket| {
            Event::Configuration(ConfigurationEvent::RolledBack { ticket, document, to, author })
        });
        Ok(revision_of(outcome.await?))
    }

    /// A kept revision with its text.
    ///
    /// # Errors
    /// When it is not kept or cannot be read.
    pub async fn revision(&self, number: u64) -> Result<Revision, Refusal> {
        let read = self.keeper.with(move |store| store.revision(number)).await;
        read.and_then(|read| read).map_err(|error| {
            if let StoreError::NoRevision(number) = error {
                Refusal::NoRevision(number)
            } else {
                Refusal::Store(error.to_string())
            }
        })
    }

    /// Takes a real server out: no new connections. The open ones are ended after `within`, if
    /// given; `persistent` says what becomes of clients that persistence leads to it.
    ///
    /// # Errors
    /// When there is no such service or real server.
    pub async fn drain(
        &self,
        service: &str,
        real: &str,
        author: &str,
        reason: &str,
        within: Option<Duration>,
        persistent: PersistentClients,
    ) -> Result<(), Refusal> {
        let (service, real) = (service.to_owned(), real.to_owned());
        let (author, reason) = (author.to_owned(), reason.to_owned());
        let outcome = self.ask(move |ticket| {
            Event::Drain(DrainEvent::Drained {
                ticket,
                service,
                real,
                author,
                reason,
                within,
                persistent,
            })
        });
        outcome.await.map(|_| ())
    }

    /// Puts a drained real server back.
    ///
    /// # Errors
    /// When there is no such service or real server, or it is not drained.
    pub async fn undrain(&self, service: &str, real: &str, author: &str) -> Result<(), Refusal> {
        let (service, real, author) = (service.to_owned(), real.to_owned(), author.to_owned());
        let outcome = self
            .ask(move |ticket| Event::Drain(DrainEvent::PutBack { ticket, service, real, author }));
        outcome.await.map(|_| ())
    }

    /// Everything as one file's bytes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn backup(&self) -> Result<Vec<u8>, Refusal> {
        let made = self.keeper.with(|store| {
            // What the journal holds belongs to the configuration, too.
            store.settle(unix_now()).and_then(|_| store.backup())
        });
        made.await.and_then(|made| made).map_err(|error| Refusal::Store(error.to_string()))
    }

    /// Brings a backup back: its records at once, its configuration as a new revision.
    ///
    /// # Errors
    /// When it is damaged or refused.
    pub async fn restore(
        &self,
        bytes: Vec<u8>,
        author: &str,
    ) -> Result<Option<RevisionInfo>, Refusal> {
        let refused = |error: StoreError| Refusal::Store(error.to_string());
        let backup = Backup::read(&bytes).map_err(refused)?;
        let document =
            Document::parse(&backup.configuration, "backup").map_err(Refusal::Invalid)?;
        let restored = self.keeper.with(move |store| store.restore_records(&backup)).await;
        restored.and_then(|done| done).map_err(refused)?;
        let running = document.clone();
        let revision = self.apply(document, author, "restored from a backup", None).await?;
        let orders = self.keeper.with(move |store| orders(store, &running)).await;
        self.send(Event::Drain(DrainEvent::Restored(orders.map_err(refused)?))).await?;
        Ok(revision)
    }

    /// The health checks: what each asks, believes, and found last.
    pub async fn checks(&self) -> Vec<CheckView> {
        self.checker.look().await
    }

    /// All clocks that are compared with this node's.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn clocks(&self) -> Result<TimeView, Refusal> {
        self.clocks.look().await.ok_or_else(ended)
    }

    /// Has the checks read their certificate files anew.
    pub async fn reload_checks(&self) {
        self.checker.reload().await;
    }

    /// The daemon's status.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn status(&self, node: &str, version: &str) -> Result<StatusView, Refusal> {
        let connections = self.dataplane.director().connections().len() as u64;
        let (node, version) = (node.to_owned(), version.to_owned());
        self.query(move |state, _| StatusView::of(state, &node, connections, &version)).await
    }

    /// All services with their real servers.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn services(&self) -> Result<Vec<ServiceView>, Refusal> {
        self.query(ServiceView::all).await
    }

    /// All interfaces that are attached or should be.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn interfaces(&self) -> Result<Vec<InterfaceView>, Refusal> {
        self.query(InterfaceView::all).await
    }

    /// Packets that died, by reason.
    pub fn drops(&self) -> Vec<DropView> {
        DropView::all(self.dataplane.director())
    }

    /// Every decision that the first packet of a flow would meet. Nothing is changed by asking.
    pub fn explain(&self, question: &Question) -> ExplanationView {
        let director = self.dataplane.director();
        let (table, hops) = (director.table(), director.hops());
        let now = dataplane::worker::now();
        explain(View { director, table: &table, hops: &hops, now }, question).into()
    }

    /// The last `limit` records, oldest first.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn recent(&self, limit: usize) -> Result<Vec<Arc<Record>>, Refusal> {
        self.query(move |state, _| {
            let surplus = state.recent.len().saturating_sub(limit);
            state.recent.iter().skip(surplus).cloned().collect()
        })
        .await
    }
}

fn revision_of(outcome: Outcome) -> Option<RevisionInfo> {
    match outcome {
        Outcome::Committed(revision) | Outcome::Confirmed(revision) => Some(revision),
        Outcome::Done | Outcome::Ipvs(_) | Outcome::Refused(_) => None,
    }
}

fn ended() -> Refusal {
    Refusal::Unavailable("shutting down".to_owned())
}

#[allow(clippy::disallowed_methods)] // a backup is stamped where it is asked for
fn unix_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

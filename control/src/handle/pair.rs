//! What console may call about the two directors.

use super::{Handle, revision_of};
use crate::events::{Choice, Event, PeerEvent};
use crate::state::Refusal;
use crate::store::RevisionInfo;
use crate::view::{ConfigurationsView, SyncView, VrrpView};

impl Handle {
    /// The VRRP instances as they stand.
    pub fn vrrp(&self) -> Vec<VrrpView> {
        let document = &self.snapshot().document;
        let mut views =
            VrrpView::all(document, &self.mastership.status(), crate::vrrp::task::clock());
        let other = self.replication.other_macs();
        for view in views.iter_mut().filter(|view| other.contains(&view.name)) {
            view.differences.push("another virtual_mac setting".to_owned());
        }
        views
    }

    /// How the link to the other director stands, and what is shared over it.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn sync(&self) -> Result<SyncView, Refusal> {
        let compared = self.query(|state, _| ConfigurationsView::of(state)).await?;
        Ok(SyncView {
            configuration: compared.compare(),
            ..SyncView::of(self.replication.report())
        })
    }

    /// Settles a conflict between the two directors' configurations.
    ///
    /// # Errors
    /// When there is none, or what is chosen does not fit or cannot be stored.
    pub async fn keep(
        &self,
        choice: Choice,
        author: &str,
    ) -> Result<Option<RevisionInfo>, Refusal> {
        let author = author.to_owned();
        let outcome = self
            .ask(move |ticket| Event::Peer(PeerEvent::ConflictSettled { ticket, choice, author }));
        Ok(revision_of(outcome.await?))
    }

    /// Waits for the other director to be paired by the code that this returns.
    ///
    /// # Errors
    /// When the configuration names no peer, or there is no link to it.
    pub async fn pair(&self) -> Result<String, Refusal> {
        self.replication.pair().await
    }

    /// Pairs with the other director by the code that it shows. Its key.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub async fn join(&self, code: &str) -> Result<String, Refusal> {
        self.replication.join(code).await
    }

    /// Gives mastership of one VRRP instance and its group, or of all, to the other node.
    ///
    /// # Errors
    /// When there is no such instance, or VRRP does not run.
    pub fn failover(&self, instance: Option<&str>) -> Result<(), Refusal> {
        let known = self.mastership.status();
        if let Some(name) = instance
            && !known.iter().any(|status| status.name == name)
        {
            return Err(Refusal::NoInstance(name.to_owned()));
        }
        let resigned = self.mastership.resign(instance.map(str::to_owned));
        resigned.map_err(|error| Refusal::Unavailable(error.to_string()))
    }
}

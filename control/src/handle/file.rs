//! The configuration file of a running daemon.

use super::Handle;
use crate::events::Event;
use crate::model::{Document, differences};
use crate::record::{Kind, Severity};
use crate::state::Refusal;
use crate::store::StoreError;
use crate::tasks::{GivenFile, Known, known, remember, takes_back};
use std::sync::Arc;

impl Handle {
    /// Applies the daemon's configuration file again. One that says what it said when it was applied last
    /// changes nothing, so what was committed by other ways stands; one that was changed is the truth, and
    /// what it takes back is said.
    ///
    /// # Errors
    /// When the document is refused or cannot be stored; nothing has changed then. A file without services
    /// is refused while services run: it was emptied by mistake more likely than on purpose.
    pub async fn apply_file(&self, file: GivenFile) -> Result<(), Refusal> {
        let file = Arc::new(file);
        let asked = Arc::clone(&file);
        let found = self.keeper.with(move |store| known(store, &asked)).await;
        let running = Arc::clone(&self.snapshot().head);
        match found.and_then(|found| found).map_err(refused)? {
            Known::Unchanged => self.leave(&file, &running).await?,
            Known::Changed(before) => {
                if file.document.services.is_empty() && !running.services.is_empty() {
                    return Err(Refusal::Emptied(file.name.clone()));
                }
                let document = file.document.clone();
                let applied = self.apply(document, "viaduct run", &file.comment(), None).await?;
                if let Some(revision) = applied
                    && let Some(text) =
                        takes_back(before.as_deref(), &running, &file, revision.number)
                {
                    self.send(Event::Noticed {
                        kind: Kind::System,
                        severity: Severity::Warning,
                        text,
                    })
                    .await?;
                }
            }
        }
        let kept = self.keeper.with(move |store| remember(store, &file.text)).await;
        kept.and_then(|kept| kept).map_err(refused)
    }

    /// A document was applied by other ways: if it is what the daemon's configuration file says now, that
    /// was applied with it, and is not applied again over what will be committed after it.
    ///
    /// # Errors
    /// When the store does not take the note: then the file counts as changed.
    pub async fn applied(&self, text: String) -> Result<(), Refusal> {
        let Some(path) = self.file.clone() else { return Ok(()) };
        let noted = self.keeper.with(move |store| match std::fs::read_to_string(path) {
            Ok(file) if file == text => remember(store, &text),
            // Another document, or no file that says anything.
            Ok(_) | Err(_) => Ok(()),
        });
        noted.await.and_then(|noted| noted).map_err(refused)
    }

    /// An unchanged file is not applied over what was committed since; whoever wanted that is told how.
    async fn leave(&self, file: &GivenFile, running: &Document) -> Result<(), Refusal> {
        let since = differences(&file.document, running).len();
        if since == 0 {
            return Ok(());
        }
        let name = &file.name;
        let text = format!(
            "the configuration file {name} has not changed since it was applied, so what was committed by \
             other ways since stands ({since} differences: `viaduct diff {name}`); `viaduct apply {name}` \
             takes it back"
        );
        self.send(Event::Noticed { kind: Kind::System, severity: Severity::Info, text }).await
    }
}

fn refused(error: StoreError) -> Refusal {
    Refusal::Store(error.to_string())
}

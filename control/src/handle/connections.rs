//! Connections: shown, counted and ended by a filter.

use super::Handle;
use crate::state::Refusal;
use crate::view::{Chosen, ConnectionFilter, ConnectionView, ConnectionsView};
use dataplane::packet_path::connections::ConnectionInfo;

/// Connections in one page at most.
const PAGE: usize = 10_000;

impl Handle {
    /// A page of connections that meet the filter. A page may be empty and still have a next one.
    ///
    /// # Errors
    /// When the filter names nothing that is, or the engine has ended.
    pub async fn connections(
        &self,
        filter: &ConnectionFilter,
        cursor: u64,
        limit: usize,
    ) -> Result<ConnectionsView, Refusal> {
        let chosen = self.choose(filter).await?;
        let page = self.page(&chosen, cursor, limit.clamp(1, PAGE));
        let connections = page.0.iter().map(ConnectionView::from).collect();
        Ok(ConnectionsView { connections, next: page.1 })
    }

    /// How many connections meet the filter.
    ///
    /// # Errors
    /// When the filter names nothing that is, or the engine has ended.
    pub async fn count(&self, filter: &ConnectionFilter) -> Result<u64, Refusal> {
        let chosen = self.choose(filter).await?;
        let (mut cursor, mut count) = (Some(0), 0);
        while let Some(from) = cursor {
            let (found, next) = self.page(&chosen, from, PAGE);
            count += found.len() as u64;
            cursor = next;
            tokio::task::yield_now().await;
        }
        Ok(count)
    }

    /// Ends the connections that meet the filter, and says how many there were.
    ///
    /// # Errors
    /// When the filter is empty or names nothing that is, or the engine has ended.
    pub async fn kill(&self, filter: &ConnectionFilter) -> Result<u64, Refusal> {
        if filter.is_empty() {
            return Err(Refusal::BadFilter("no condition given".to_owned()));
        }
        let chosen = self.choose(filter).await?;
        let (mut cursor, mut ended) = (Some(0), 0);
        while let Some(from) = cursor {
            let (found, next) = self.page(&chosen, from, PAGE);
            ended += found.len() as u64;
            if !found.is_empty() {
                self.dataplane.end(found.iter().map(ConnectionInfo::identity).collect());
            }
            cursor = next;
            tokio::task::yield_now().await;
        }
        Ok(ended)
    }

    async fn choose(&self, filter: &ConnectionFilter) -> Result<Chosen, Refusal> {
        let filter = filter.clone();
        self.query(move |state, _| {
            let service = match &filter.service {
                Some(name) => {
                    let found = state.find_service(name);
                    Some(found.ok_or_else(|| Refusal::NoService(name.clone()))?.address)
                }
                None => None,
            };
            filter.choose(service, &state.ids).map_err(Refusal::BadFilter)
        })
        .await?
    }

    fn page(
        &self,
        chosen: &Chosen,
        cursor: u64,
        limit: usize,
    ) -> (Vec<ConnectionInfo>, Option<u64>) {
        let from = u32::try_from(cursor).unwrap_or(u32::MAX);
        let page = self.dataplane.connections(from, limit);
        let found = page.connections.into_iter().filter(|info| chosen.matches(info)).collect();
        (found, page.next.map(u64::from))
    }
}

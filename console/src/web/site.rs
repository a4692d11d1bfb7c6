//! What all requests of the console share.

use super::access::Access;
use control::handle::Handle;
use std::sync::Arc;

/// A running console.
pub struct Site {
    /// The way to the engine.
    pub handle: Handle,
    /// Who may come in.
    pub access: Arc<Access>,
}

/// The console, as handlers get it.
pub type Shared = Arc<Site>;

//! The API, as the daemon's Unix socket serves it.

pub mod api;
mod socket;

pub use socket::{BindError, Socket};

use control::handle::Handle;
use tokio_util::sync::CancellationToken;

/// Serves the API on a socket until `stop`; requests under way are finished.
///
/// # Errors
/// When the socket fails.
pub async fn serve(handle: Handle, socket: Socket, stop: CancellationToken) -> std::io::Result<()> {
    let app = api::router(handle).into_make_service_with_connect_info::<api::Caller>();
    let served = axum::serve(socket.into_listener()?, app);
    served.with_graceful_shutdown(async move { stop.cancelled().await }).await
}

//! The API, as the daemon's Unix socket serves it, and the console, as browsers see it over TLS.

mod access;
pub mod api;
mod assets;
mod certificate;
mod guard;
mod headers;
mod metrics;
mod pages;
mod routes;
mod second_factor;
mod shell;
mod site;
mod socket;
mod state;
mod tls;
mod trouble;
mod words;

pub use access::Access;
pub use routes::{ROUTES, Route};
pub use socket::{BindError, Socket};

use arc_swap::ArcSwap;
use certificate::Certificate;
use control::handle::Handle;
use control::state::Refusal;
use site::Site;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves the API on a socket until `stop`; requests under way are finished.
///
/// # Errors
/// When the socket fails.
pub async fn serve(
    handle: Handle,
    access: Arc<Access>,
    socket: Socket,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = api::router(handle, access).into_make_service_with_connect_info::<api::Caller>();
    let served = axum::serve(socket.into_listener()?, app);
    served.with_graceful_shutdown(async move { stop.cancelled().await }).await
}

/// The console, bound to its address and ready to be served.
pub struct Console {
    listener: TcpListener,
    site: site::Shared,
    certificate: Arc<ArcSwap<Certificate>>,
}

impl Console {
    /// Binds the address, and reads or makes the certificate. While there is no administrator, the
    /// set-up code is said in the log.
    ///
    /// # Errors
    /// When the address is taken or the store fails.
    pub async fn open(
        handle: Handle,
        access: Arc<Access>,
        address: SocketAddr,
    ) -> Result<Self, Refusal> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| {
            Refusal::Unavailable(format!("the console cannot listen on {address}: {error}"))
        })?;
        let names = vec![api::host_name(), "localhost".to_owned(), address.ip().to_string()];
        let names = names.into_iter().filter(|name| !name.is_empty()).collect();
        let certificate = Certificate::load_or_make(&handle, names).await?;
        let print = &certificate.fingerprint;
        tracing::info!("console on https://{address}, certificate SHA-256 {print}");
        access.say_code();
        let certificate = Arc::new(ArcSwap::from_pointee(certificate));
        Ok(Self { listener, site: Arc::new(Site { handle, access }), certificate })
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> std::io::Result<()> {
        tls::serve(self.listener, self.certificate, routes::router(&self.site), stop).await
    }
}

#[allow(clippy::disallowed_methods)] // requests are an edge
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

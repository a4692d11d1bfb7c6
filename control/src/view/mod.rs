//! What is shown of the running director: the JSON of `--json` and of the API.
//!
//! Field names are a contract. Times are milliseconds since 1970, spans are seconds.

mod configurations;
mod connections;
mod drops;
mod explanation;
mod interfaces;
mod services;
mod status;
mod sync;
mod vrrp;

pub use crate::date::moment;
pub use configurations::{ChangeView, ConfigurationsView, Disagreement};
pub use connections::{Chosen, ConnectionFilter, ConnectionView, ConnectionsView};
pub use drops::DropView;
pub use explanation::{ExplanationView, StepView};
pub use interfaces::{BuffersView, InterfaceView};
pub use services::{
    DrainView, PeerVerdictView, RealView, ServiceView, State as RealState, TrafficView,
};
pub use status::StatusView;
pub use sync::SyncView;
pub use vrrp::{HeardMaster, VrrpView};

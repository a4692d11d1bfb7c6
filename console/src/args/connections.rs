//! `kill-connections`.

use clap::Args;
/// Which connections to end.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct KillArguments {
    /// Connections of this service, by name or address.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Connections to this real server.
    #[arg(long, value_name = "IP[:PORT]")]
    pub real: Option<String>,
    /// Connections of this client.
    #[arg(long, value_name = "IP[:PORT]")]
    pub client: Option<String>,
}

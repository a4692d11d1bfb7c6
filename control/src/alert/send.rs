//! Delivers one message to one receiver.

mod mail;
mod script;
mod syslog;
mod text;
mod webhook;

use std::time::Duration;

use super::policy::Message;
use crate::model::AlertTarget;

/// How long one delivery may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells a receiver; the error is for people.
pub(super) async fn deliver(
    node: &str,
    target: &AlertTarget,
    message: &Message,
) -> Result<(), String> {
    let delivery = async {
        match target {
            AlertTarget::Mail { to, from, server, security, login } => {
                let way = mail::Way { server, security: *security, login: login.as_ref() };
                mail::send(node, to, from, way, message).await
            }
            AlertTarget::Webhook { url, secret } => {
                webhook::post(node, url, secret.as_deref(), message).await
            }
            AlertTarget::Script { command } => script::run(node, command, message).await,
            AlertTarget::Syslog { facility } => syslog::write(node, facility, message).await,
        }
    };
    match tokio::time::timeout(PATIENCE, delivery).await {
        Ok(result) => result,
        Err(_) => Err(format!("timed out after {} s", PATIENCE.as_secs())),
    }
}

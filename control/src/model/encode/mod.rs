//! Document to TOML, in a stable order. What has its default value is left out.

mod check;
mod node;
mod service;
mod vrrp;
mod writer;

use super::Document;
use writer::Writer;

/// Writes a document.
pub(super) fn document(document: &Document) -> String {
    let mut writer = Writer::default();
    node::node(&mut writer, &document.node);
    node::interfaces(&mut writer, &document.interfaces);
    for item in &document.services {
        service::service(&mut writer, item);
    }
    vrrp::vrrp(&mut writer, document);
    node::peer(&mut writer, document.peer.as_ref());
    node::time(&mut writer, &document.time);
    node::alerts(&mut writer, &document.alerts);
    node::timeouts(&mut writer, &document.timeouts);
    node::tunables(&mut writer, &document.tunables);
    writer.finish()
}

/// The word for a value that the reader's own list gives.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, meaning)| meaning == value).map_or("", |(word, _)| word)
}

//! Lists of connections.

use super::names::Names;
use super::text::Endpoints;
use control::ipvs::Connection;

/// Writes lists of connections.
pub(super) struct Connections<'a> {
    engines: bool,
    endpoints: Endpoints<'a>,
}

impl<'a> Connections<'a> {
    /// `engines`: with the persistence engine's data, where a connection has some.
    pub fn new(numeric: bool, engines: bool, names: &'a dyn Names) -> Self {
        Self { engines, endpoints: Endpoints { names: (!numeric).then_some(names) } }
    }

    /// The two lines above the columns.
    pub fn title(&self) -> String {
        let (state, source, vip, real) = ("state", "source", "virtual", "destination");
        let columns = format!("pro expire {state:<11} {source:<18} {vip:<18}");
        if self.engines {
            let engine = format!("{real:<18} {:<16} {}", "pe name", "pe_data");
            format!("IPVS connection entries\n{columns} {engine}\n")
        } else {
            format!("IPVS connection entries\n{columns} {real}\n")
        }
    }

    /// One connection's line.
    pub fn line(&self, connection: &Connection) -> String {
        let protocol = connection.protocol.as_str();
        let named = match protocol {
            "TCP" => Some("tcp"),
            "UDP" => Some("udp"),
            "SCTP" => Some("sctp"),
            _ => None,
        };
        let expires = format!("{:02}:{:02}", connection.expires / 60, connection.expires % 60);
        let source = self.endpoints.show(&connection.client, named);
        let vip = self.endpoints.show(&connection.vip, named);
        let real = self.endpoints.show(&connection.real, named);
        let state = connection.state.as_str();
        let columns = format!("{protocol:<3} {expires:<6} {state:<11} {source:<18} {vip:<18}");
        match connection.engine.as_ref().filter(|_| self.engines) {
            Some(engine) => format!("{columns} {real:<16} {:<18} {}\n", engine.name, engine.data),
            None => format!("{columns} {real}\n"),
        }
    }
}

//! Who is connected where: the plain model that both worlds' bookkeeping rests on.

use super::scenario::Change;
use std::collections::BTreeSet;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Refused,
    Active,
    Closed,
    Ended,
}

#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub server: u8,
    pub state: State,
}

/// One scenario's connections, by number, and the servers that the service has.
#[derive(Debug, Default)]
pub struct Book {
    present: BTreeSet<u8>,
    connections: Vec<Connection>,
}

impl Book {
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Add(server) => _ = self.present.insert(server.number),
            Change::Delete(number) => _ = self.present.remove(&number),
            Change::Edit(_) | Change::EditService(..) => {}
        }
    }

    pub fn connect(&mut self, server: Option<u8>) {
        let state = if server.is_some() { State::Active } else { State::Refused };
        self.connections.push(Connection { server: server.unwrap_or(0), state });
    }

    /// Whether the FIN had an effect: packets to a removed server are dropped before the
    /// connection sees them.
    pub fn close(&mut self, number: usize) -> Option<u8> {
        let connection = self.connections.get_mut(number)?;
        if connection.state != State::Active || !self.present.contains(&connection.server) {
            return None;
        }
        connection.state = State::Closed;
        Some(connection.server)
    }

    /// Ends all closed connections whose server is there; returns their numbers.
    pub fn expire(&mut self) -> Vec<usize> {
        let mut ended = Vec::new();
        for (number, connection) in self.connections.iter_mut().enumerate() {
            if connection.state == State::Closed && self.present.contains(&connection.server) {
                connection.state = State::Ended;
                ended.push(number);
            }
        }
        ended
    }

    /// Connections in this state on a server.
    pub fn count(&self, server: u8, state: State) -> u32 {
        let of = |c: &&Connection| c.server == server && c.state == state;
        self.connections.iter().filter(of).count() as u32
    }

    /// Connections in this state on all servers that the service has now.
    pub fn count_present(&self, state: State) -> u32 {
        self.present.iter().map(|server| self.count(*server, state)).sum()
    }

    /// Number of connections asked for so far.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    pub fn connection(&self, number: usize) -> Option<&Connection> {
        self.connections.get(number)
    }
}

//! When a connection is worth a record: the kernel's `ip_vs_sync_conn_needed`, with the same knobs.

use dataplane::tick::{Tick, Ticks};

const TCP: u8 = 6;
const SCTP: u8 = 132;
const TCP_ESTABLISHED: u8 = 1;
const SCTP_ESTABLISHED: u8 = 8;
/// ESTABLISHED, FIN_WAIT, CLOSE, CLOSE_WAIT, TIME_WAIT.
const TCP_STATES: u16 = 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 5;
/// ESTABLISHED, SHUTDOWN_SENT, SHUTDOWN_RECEIVED, SHUTDOWN_ACK_SENT, CLOSED.
const SCTP_STATES: u16 = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 13;
const LEAST_DIFFERENCE: Ticks = Ticks::from_secs(10);

/// The sysctls of the sending side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Which packet of each period is told: `sync_threshold`, first value.
    pub threshold: u32,
    /// Packets between two records of one connection, or 0 for one record only: `sync_threshold`, second.
    pub period: u32,
    /// Least change of the end of life that is told, or zero for no such rule: `sync_refresh_period`.
    pub refresh_period: Ticks,
    /// Records sent again within the refresh period: `sync_retries`, 0 to 3.
    pub retries: u8,
    /// Templates only, not what they control: `sync_persist_mode`.
    pub templates_only: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            threshold: 3,
            period: 50,
            refresh_period: Ticks(0),
            retries: 0,
            templates_only: false,
        }
    }
}

/// What a connection looks like now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Protocol number.
    pub protocol: u8,
    /// State number.
    pub state: u8,
    /// Whether it is a template.
    pub template: bool,
    /// Whether a template controls it.
    pub persistent: bool,
    /// Packets from the client so far, and how many of them are new since it was last looked at.
    pub packets: u32,
    /// See `packets`; 0 when only its timer was set anew.
    pub fresh: u32,
    /// Lifetime after each packet.
    pub timeout: Ticks,
}

/// What to remember of each connection between two looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    state: u8,
    retries: u8,
    ends: Option<Tick>,
}

impl Memory {
    /// The state that was told last.
    pub const fn state(&self) -> u8 {
        self.state
    }
}

impl Policy {
    /// Whether to send a record now; `memory` is updated when the answer is yes.
    pub fn wants(&self, seen: &Seen, memory: &mut Memory, now: Tick) -> bool {
        let Some(urgent) = self.urgency(seen, memory) else { return false };
        let ends = now.after(seen.timeout);
        let retries = if urgent { Some(0) } else { self.refresh(seen, memory, ends, now) };
        let Some(retries) = retries else { return false };
        if !urgent && !self.is_turn(seen) {
            return false;
        }
        *memory = Memory { state: seen.state, retries, ends: Some(ends) };
        true
    }

    /// `None`: never in this state. `true`: a change that must be told at once.
    const fn urgency(&self, seen: &Seen, memory: &Memory) -> Option<bool> {
        if seen.template {
            return Some(false);
        }
        if self.templates_only && seen.persistent {
            return None;
        }
        let (states, established) = match seen.protocol {
            TCP => (TCP_STATES, TCP_ESTABLISHED),
            SCTP => (SCTP_STATES, SCTP_ESTABLISHED),
            _ => return Some(false),
        };
        if seen.state > 15 || states & 1 << seen.state == 0 {
            return None;
        }
        Some(seen.state != memory.state && seen.state != established)
    }

    /// How many retries have been sent with this one; `None` when it is too soon for another record.
    fn refresh(&self, seen: &Seen, memory: &Memory, ends: Tick, now: Tick) -> Option<u8> {
        let (Some(told), true) = (memory.ends, self.refresh_period.0 > 0) else { return Some(0) };
        let difference = ends.since(told).max(told.since(ends));
        let least = LEAST_DIFFERENCE.max(Ticks(seen.timeout.0 / 2));
        if difference >= self.refresh_period.min(least) {
            return Some(0);
        }
        let sent = Tick(told.0.wrapping_sub(seen.timeout.0));
        let again = sent.after(Ticks(self.refresh_period.0 / 8));
        (memory.retries < self.retries && again.is_due(now)).then_some(memory.retries + 1)
    }

    /// Whether the packets seen since the last look include one that is told.
    const fn is_turn(&self, seen: &Seen) -> bool {
        if self.period == 0 {
            return self.refresh_period.0 > 0 || contains(seen, self.threshold);
        }
        if seen.template {
            return true;
        }
        let before = seen.packets.saturating_sub(seen.fresh);
        let first = match seen.fresh {
            // Only the timer was set: the kernel asks with the count as it is.
            0 => seen.packets,
            _ => before + 1,
        };
        let past = first % self.period;
        let threshold = self.threshold % self.period;
        let wait =
            if past <= threshold { threshold - past } else { self.period - past + threshold };
        // A threshold of the period or more never matches, in the kernel either.
        self.threshold < self.period && first.saturating_add(wait) <= seen.packets
    }
}

const fn contains(seen: &Seen, packet: u32) -> bool {
    let before = seen.packets.saturating_sub(seen.fresh);
    packet <= seen.packets && (packet > before || seen.fresh == 0 && packet == seen.packets)
}

#[cfg(test)]
mod tests;

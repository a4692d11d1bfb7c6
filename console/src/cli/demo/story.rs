//! What happens in the demonstration: a real server is killed and started again.

use std::time::Duration;

use anyhow::Result;

use super::site::DemoSite;

/// The real server that dies, counted from 0.
pub const VICTIM: usize = 1;
/// Without a limit, a round of dying and coming back takes so long.
const ROUND: Duration = Duration::from_secs(30);
/// Events kept for the screen; older ones are forgotten.
const KEPT: usize = 6;

/// The state of the story and what has happened.
#[derive(Debug)]
pub struct Story {
    round: Duration,
    dead: bool,
    events: Vec<String>,
    fresh: usize,
}

impl Story {
    /// A story that has one death and one return in `seconds`, or goes on for ever.
    pub fn new(seconds: Option<u64>) -> Self {
        let round = seconds.map_or(ROUND, Duration::from_secs);
        Self { round, dead: false, events: Vec::new(), fresh: 0 }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the server cannot be started again.
    pub fn advance(&mut self, elapsed: Duration, site: &mut DemoSite) -> Result<()> {
        self.fresh = 0;
        let due = is_dead(elapsed, self.round);
        if due && !self.dead {
            site.kill(VICTIM);
            self.tell(elapsed, &format!("real{} was killed", VICTIM + 1));
        } else if !due && self.dead {
            site.revive(VICTIM)?;
            self.tell(elapsed, &format!("real{} was started again", VICTIM + 1));
        }
        self.dead = due;
        Ok(())
    }

    /// Records an event.
    pub fn tell(&mut self, elapsed: Duration, what: &str) {
        self.events.push(format!("{:>5} s  {what}", elapsed.as_secs()));
        self.fresh += 1;
        let surplus = self.events.len().saturating_sub(KEPT.max(self.fresh));
        self.events.drain(..surplus);
    }

    /// The last events, oldest first.
    pub fn events(&self) -> &[String] {
        &self.events[self.events.len().saturating_sub(KEPT)..]
    }

    /// Those since the last call of [`Story::advance`].
    pub fn new_events(&self) -> &[String] {
        &self.events[self.events.len() - self.fresh..]
    }
}

/// The second third of each round is the victim's absence.
fn is_dead(elapsed: Duration, round: Duration) -> bool {
    let at = elapsed.as_millis() % round.as_millis().max(1);
    let third = round.as_millis() / 3;
    // A bounded story is over at the end of its only round, with the victim back.
    at >= third && at < 2 * third
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_victim_is_absent_in_the_second_third_of_each_round() {
        let seconds = Duration::from_secs;
        let dead: Vec<u64> = (0..60).filter(|at| is_dead(seconds(*at), seconds(30))).collect();
        assert_eq!(dead, (10..20).chain(40..50).collect::<Vec<_>>());
        assert!(!is_dead(seconds(6), seconds(6)));
    }

    #[test]
    fn events_of_one_step_are_all_new_and_older_ones_are_forgotten() {
        let mut story = Story::new(None);
        for second in 0..20 {
            story.fresh = 0;
            story.tell(Duration::from_secs(second), "one");
            story.tell(Duration::from_secs(second), "two");
            assert_eq!(story.new_events().len(), 2);
        }
        assert_eq!(story.events().len(), KEPT);
    }
}

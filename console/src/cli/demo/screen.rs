//! Draws the report on a terminal, by the few control sequences that every terminal knows (ECMA-48).

use super::report::{RealReport, Report};
use super::site::SERVICES;

/// Switches to the alternate screen and hides the cursor.
pub const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Undoes [`ENTER`].
pub const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Cursor to the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line, and of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Longest bar, in characters.
const BAR: usize = 30;

/// The whole screen as one string, to be written at once so that it does not flicker.
pub fn draw(report: &Report, events: &[String], hints: &[String]) -> String {
    let mut text = HOME.to_owned();
    for line in lines(report, events, hints) {
        text.push_str(&line);
        text.push_str(CLEAR_LINE);
        text.push_str("\r\n");
    }
    text.push_str(CLEAR_BELOW);
    text
}

fn lines(report: &Report, events: &[String], hints: &[String]) -> Vec<String> {
    let seconds = report.elapsed.as_secs();
    let mut lines = vec![
        format!("Viaduct demonstration, {seconds} s. Ctrl-C ends it and removes everything."),
        String::new(),
    ];
    for (service, shown) in SERVICES.iter().zip(&report.services) {
        lines.push(format!(
            "{:<7} http://{}/  {:>3.0} requests/s, {} failed  ({})",
            service.name, service.vip, shown.rate, shown.failed, service.means
        ));
        lines.extend(shown.reals.iter().map(row));
        lines.push(String::new());
    }
    lines.extend(events.iter().cloned());
    lines.push(String::new());
    lines.extend(hints.iter().cloned());
    lines
}

fn row(real: &RealReport) -> String {
    let state = match real.weight {
        None => "removed".to_owned(),
        Some(0) => "down".to_owned(),
        Some(weight) => format!("weight {weight}"),
    };
    // Rounded to whole characters; a share that is not nothing shows at least one.
    let full = (real.share * BAR as f64).round() as usize;
    let length = if real.share > 0.0 { full.max(1) } else { 0 };
    format!(
        "  {:<6} {state:<9} {:<BAR$} {:>3.0} %  {:>6} answered  {:>3} active {:>5} inactive",
        real.name,
        "#".repeat(length.min(BAR)),
        real.share * 100.0,
        real.answered,
        real.connections.0,
        real.connections.1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_state_and_share() {
        let mut real = RealReport {
            name: "real1".to_owned(),
            share: 0.5,
            answered: 7,
            weight: Some(3),
            connections: (1, 2),
        };
        let text = row(&real);
        assert!(
            text.contains("weight 3") && text.contains(&"#".repeat(15)) && text.contains("50 %"),
            "{text}"
        );
        real.weight = Some(0);
        real.share = 0.0;
        let text = row(&real);
        assert!(text.contains("down") && !text.contains('#'), "{text}");
    }

    #[test]
    fn every_line_is_cleared_to_its_end() {
        let text = draw(&Report::default(), &["event".to_owned()], &["hint".to_owned()]);
        assert!(text.starts_with(HOME) && text.ends_with(CLEAR_BELOW));
        assert_eq!(text.matches("\r\n").count(), text.matches(CLEAR_LINE).count());
    }
}

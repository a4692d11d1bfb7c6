//! Numbers, spans and moments as people read them. The exact value goes into a `title`.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::time::Duration;

/// A whole number, from any integer type of a view.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub u64);

impl<T: Copy + Into<Self>> From<&T> for Number {
    fn from(number: &T) -> Self {
        (*number).into()
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self(u64::from(number))
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self(number as u64)
    }
}

/// Three significant digits with a unit of thousands: 999, 12.3k, 1.84M, 412M.
pub fn short(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    if number < 1.0 {
        let tenths = (number.max(0.0) * 10.0).round() / 10.0;
        return if tenths == 0.0 { "0".to_owned() } else { format!("{tenths}") };
    }
    let (mut scaled, mut unit) = (number, 0);
    // What rounds to 1,000 belongs to the next unit.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let decimals = match (unit, scaled) {
        (0, scaled) if scaled >= 9.95 || scaled.fract() == 0.0 => 0,
        (0, _) => 1,
        (_, scaled) if scaled >= 99.95 => 0,
        (_, scaled) if scaled >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{}", UNITS[unit])
}

/// A whole number with its thousands apart: 1,204.
pub fn exact(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The two largest units of a span: `2 h 44 min`, `6 min 12 s`, `45 s`.
pub fn duration(span: Duration, lang: super::Lang) -> String {
    let seconds = span.as_secs();
    let parts = [
        ("span-days", seconds / 86_400),
        ("span-hours", seconds / 3600 % 24),
        ("span-minutes", seconds / 60 % 60),
        ("span-seconds", seconds % 60),
    ];
    let first = parts.iter().position(|(_, count)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).filter(|(_, count)| *count > 0 || first == 3);
    let words: Vec<String> = shown.map(|(id, count)| lang.count(id, *count)).collect();
    words.join(" ")
}

/// A moment as it is shown, and exactly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// `14:30:24` today, `11-30 18:02` this year, `2025-12-31` before.
    pub short: String,
    /// With date, zone and offset.
    pub full: String,
}

/// A moment in milliseconds since 1970, in the node's own zone.
pub fn moment(milliseconds: u64, now: u64) -> Moment {
    let zone = TimeZone::system();
    let (at, now) = (zoned(milliseconds, &zone), zoned(now, &zone));
    let format = match (at.date() == now.date(), at.year() == now.year()) {
        (true, _) => "%H:%M:%S",
        (false, true) => "%m-%d %H:%M",
        (false, false) => "%Y-%m-%d",
    };
    Moment {
        short: at.strftime(format).to_string(),
        full: at.strftime("%Y-%m-%d %H:%M:%S %Z (UTC%:z)").to_string(),
    }
}

fn zoned(milliseconds: u64, zone: &TimeZone) -> Zoned {
    let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX).to_zoned(zone.clone())
}

//! Measured numbers: a table for the reader, and a file with where, when and how.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One section's numbers. Every way of doing the job is a row, every measure a column.
#[derive(Debug)]
pub struct Report {
    title: &'static str,
    measures: &'static [Measure],
    ways: Vec<Way>,
    /// The row that ratios are given to.
    base: &'static str,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub name: &'static str,
    pub unit: &'static str,
}

#[derive(Debug)]
struct Way {
    name: String,
    /// By measure, one number a round.
    rounds: BTreeMap<&'static str, Vec<f64>>,
}

impl Report {
    pub const fn new(
        title: &'static str,
        measures: &'static [Measure],
        base: &'static str,
    ) -> Self {
        Self { title, measures, ways: Vec::new(), base }
    }

    /// Notes one round's number.
    pub fn add(&mut self, way: &str, measure: &'static str, value: f64) {
        let index = self.ways.iter().position(|known| known.name == way).unwrap_or_else(|| {
            self.ways.push(Way { name: way.to_owned(), rounds: BTreeMap::new() });
            self.ways.len() - 1
        });
        self.ways[index].rounds.entry(measure).or_default().push(value);
    }

    /// Median, lowest and highest of a measure.
    fn summary(&self, way: &str, measure: &str) -> Option<[f64; 3]> {
        let way = self.ways.iter().find(|known| known.name == way)?;
        let mut values = way.rounds.get(measure)?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some([median, *values.first()?, *values.last()?])
    }

    /// Writes a table of tabs: way, measure, unit, median, lowest, highest, rounds, ratio.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = format!("# {}\n", self.title);
        for (name, value) in circumstances() {
            text += &format!("# {name}: {value}\n");
        }
        text += &format!("# ratios are to: {}\n", self.base);
        text += "way\tmeasure\tunit\tmedian\tlowest\thighest\trounds\tratio\n";
        for measure in self.measures {
            for way in &self.ways {
                let Some([median, low, high]) = self.summary(&way.name, measure.name) else {
                    continue;
                };
                let count = way.rounds.get(measure.name).map_or(0, Vec::len);
                let ratio = self.ratio(&way.name, measure.name);
                let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
                let Measure { name, unit } = measure;
                text += &format!(
                    "{}\t{name}\t{unit}\t{}\t{}\t{}\t{count}\t{ratio}\n",
                    way.name,
                    plain(median),
                    plain(low),
                    plain(high)
                );
            }
        }
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    fn ratio(&self, way: &str, measure: &str) -> Option<f64> {
        let [base, ..] = self.summary(self.base, measure)?;
        let [median, ..] = self.summary(way, measure)?;
        (base != 0.0).then_some(median / base)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} (median, lowest-highest; ratio to {})", self.title, self.base)?;
        for measure in self.measures {
            writeln!(f, "  {} [{}]", measure.name, measure.unit)?;
            for way in &self.ways {
                let Some([median, low, high]) = self.summary(&way.name, measure.name) else {
                    continue;
                };
                let (median, low, high) = (plain(median), plain(low), plain(high));
                let range = format!("{low}-{high}");
                write!(f, "    {:<32} {median:>10} {range:>22}", way.name)?;
                match self.ratio(&way.name, measure.name) {
                    Some(ratio) => writeln!(f, " {ratio:>7.2}")?,
                    None => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}

/// Four digits are more than any of this repeats to.
fn plain(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { 3 - value.abs().log10().floor() as i32 };
    format!("{value:.*}", digits.clamp(0, 3) as usize)
}

/// Where, when and how.
fn circumstances() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let machine = format!("{count} x {}", model.map_or("processor", |(_, name)| name.trim()));
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let load = read("/proc/loadavg");
    vec![
        ("machine", machine),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", said("git", &["rev-parse", "--short", "HEAD"])),
        ("load of the machine at the end", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("command", format!("cargo bench -p viaduct --bench traffic -- {}", words.join(" "))),
    ]
}

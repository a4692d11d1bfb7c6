//! The chart: a panel of bars for each measure that compares Viaduct with its peers.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Section, measure, and what the panel is called.
const PANELS: &[(&str, &str, &str)] = &[
    ("packets", "per CPU-second", "64-byte UDP, thousand packets per CPU-second of the director"),
    ("packets", "forwarded", "64-byte UDP, thousand packets/s forwarded"),
    ("tcp", "1 stream", "iperf3, 1 stream, Gbit/s"),
    ("tcp", "8 streams", "iperf3, 8 streams, Gbit/s"),
    ("tcp", "kept connections", "wrk, kept connections, thousand requests/s"),
    ("tcp", "new connections", "wrk, a connection for each request, thousand/s"),
    ("guest", "a packet", "instructions per 64-byte packet, emulated guest (less is better)"),
    ("guest", "a connection", "instructions per TCP connection, emulated guest (less is better)"),
];

const WIDTH: usize = 420;
const LABEL: usize = 190;
const BAR: usize = 18;
const HEAD: usize = 30;

struct Bar {
    way: String,
    median: f64,
    low: f64,
    high: f64,
}

/// Draws `traffic.svg` from the results in a folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn draw(folder: &Path) -> Result<()> {
    let (mut body, mut columns) = (String::new(), [0, 0]);
    for (section, measure, title) in PANELS {
        let Ok(text) = fs::read_to_string(folder.join(format!("{section}.tsv"))) else { continue };
        let bars = bars(&text, measure)?;
        if bars.is_empty() {
            continue;
        }
        let column = usize::from(columns[1] < columns[0]);
        body += &panel(title, &bars, 10 + column * (WIDTH + LABEL + 80), columns[column]);
        columns[column] += HEAD + bars.len() * BAR + 24;
    }
    let (width, height) = (2 * (WIDTH + LABEL + 80), columns[0].max(columns[1]) + 10);
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n{body}</svg>\n"
    );
    let path = folder.join("traffic.svg");
    fs::write(&path, svg).with_context(|| path.display().to_string())
}

fn bars(table: &str, measure: &str) -> Result<Vec<Bar>> {
    let lines = table.lines().filter(|line| !line.starts_with('#')).skip(1);
    let mut bars = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [way, name, _, median, low, high, ..] = fields[..] else { continue };
        if name == measure {
            let (median, low, high) = (median.parse()?, low.parse()?, high.parse()?);
            bars.push(Bar { way: way.to_owned(), median, low, high });
        }
    }
    Ok(bars)
}

fn panel(title: &str, bars: &[Bar], x: usize, y: usize) -> String {
    let most = bars.iter().map(|bar| bar.high).fold(f64::MIN_POSITIVE, f64::max);
    let scale = |value: f64| value / most * WIDTH as f64;
    let mut svg =
        format!("<text x=\"{x}\" y=\"{}\" font-weight=\"bold\">{title}</text>\n", y + HEAD - 10);
    for (index, bar) in bars.iter().enumerate() {
        let top = y + HEAD + index * BAR;
        let (text, middle, left) = (top + 12, top + BAR / 2 - 1, x + LABEL);
        let colour = if bar.way.starts_with("viaduct") { "#c8501e" } else { "#8a97a6" };
        let (from, to) = (scale(bar.low) + left as f64, scale(bar.high) + left as f64);
        svg += &format!(
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{left}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"black\"/>\n\
             <text x=\"{:.1}\" y=\"{text}\">{}</text>\n",
            left - 6,
            bar.way,
            scale(bar.median),
            BAR - 4,
            to + 5.0,
            bar.median
        );
    }
    svg
}

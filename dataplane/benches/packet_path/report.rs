//! The table, on the screen and in a file.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

pub struct Row {
    pub name: String,
    /// Packets a second.
    pub rate: f64,
    pub instructions: Option<f64>,
}

pub struct Report {
    lines: String,
}

impl Report {
    pub fn new() -> Self {
        println!("{:<44} {:>8} {:>8} {:>13}", "case", "Mpps", "ns", "instructions");
        Self { lines: "case\tmpps\tns\tinstructions\n".into() }
    }

    pub fn add(&mut self, row: Row) {
        let (mpps, ns) = (row.rate / 1e6, 1e9 / row.rate);
        let instructions = row.instructions.map_or("-".into(), |count| format!("{count:.0}"));
        println!("{:<44} {mpps:>8.2} {ns:>8.1} {instructions:>13}", row.name);
        let _ = writeln!(self.lines, "{}\t{mpps:.2}\t{ns:.1}\t{instructions}", row.name);
    }

    pub fn note(&mut self, (name, value): (&str, String)) {
        println!("{name:<44} {value:>8}");
        let _ = writeln!(self.lines, "{name}\t{value}\t\t");
    }

    /// Writes the table where results are kept, with what it depends on.
    pub fn write(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bench/results");
        let file = folder.join("packet_path.tsv");
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
        let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
        let kernel = read("/proc/sys/kernel/osrelease");
        let date = Command::new("date").args(["-u", "+%F"]).output();
        let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let head = format!(
            "# machine\t{cores} cores, {}, Linux {}\n# date\t{}\n# command\t{}\n",
            cpu.trim_start_matches(['\t', ':', ' ']),
            kernel.trim(),
            date.unwrap_or_default(),
            "cargo bench -p dataplane --bench packet_path",
        );
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, head + &self.lines));
        match written {
            Ok(()) => eprintln!("written to {}", file.display()),
            Err(error) => eprintln!("{}: {error}", file.display()),
        }
    }
}

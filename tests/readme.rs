//! What the README shows is good: its configurations are accepted, its proofs exist.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");
const README: &str = include_str!("../README.md");

/// The fenced blocks of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_configuration_in_it_is_accepted() -> Result<()> {
    let configurations = blocks("toml");
    ensure!(configurations.len() >= 2, "the README's configurations were not found");
    for text in configurations {
        let mut check = Command::new(BINARY)
            .args(["check", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        check.stdin.take().context("no pipe")?.write_all(text.as_bytes())?;
        let output = check.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}in\n{text}");
    }
    Ok(())
}

#[test]
fn every_file_that_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let words = README.split('`').skip(1).step_by(2);
    let paths = words.filter(|word| {
        ["tests/", "dataplane/", "control/", "console/"].iter().any(|top| word.starts_with(top))
            && !word.contains(' ')
    });
    let mut seen = 0;
    for path in paths {
        assert!(root.join(path).exists(), "the README names {path}");
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} paths were found");
}

#[test]
fn every_command_in_it_is_known() -> Result<()> {
    let lines = blocks("sh").into_iter().flat_map(str::lines);
    let commands = lines.filter_map(|line| line.strip_prefix("viaduct "));
    for line in commands {
        let name = line.split(' ').next().context("an empty command")?;
        let help = Command::new(BINARY).args([name, "--help"]).output()?;
        ensure!(help.status.success(), "viaduct {line}");
    }
    Ok(())
}

//! The documentation is true as far as a program can tell: every configuration in it is accepted, every
//! command line in it is understood, and whatever it links to or names exists.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use console::args::{self, Arguments};
use console::cli::ipvsadm;
use control::model::Document;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines that the first page may have, so that it can be read aloud in five minutes.
const FIRST_PAGE: usize = 150;

/// One Markdown file.
struct Page {
    path: PathBuf,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The first page, every folder's README, and the manual.
fn pages() -> Result<Vec<Page>> {
    let mut paths = Vec::new();
    for top in ["console", "control", "dataplane", "image", "tests"] {
        markdown_below(&root().join(top), &mut paths)?;
    }
    paths.push(root().join("README.md"));
    let read = |path: PathBuf| Ok(Page { text: fs::read_to_string(&path)?, path });
    let pages = paths.into_iter().map(read).collect::<Result<Vec<Page>>>()?;
    ensure!(pages.len() >= 24, "only {} pages were found", pages.len());
    Ok(pages)
}

fn markdown_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            markdown_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

impl Page {
    /// The fenced blocks of a language, with their lines.
    fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        let mut open: Option<(bool, String)> = None;
        for line in self.text.lines() {
            open = match (open, line.strip_prefix("```")) {
                (None, Some(opened)) => Some((opened == language, String::new())),
                (None, None) => None,
                (Some((wanted, block)), Some(_)) => {
                    blocks.extend(wanted.then_some(block));
                    None
                }
                (Some((wanted, block)), None) => Some((wanted, block + line + "\n")),
            };
        }
        blocks
    }

    /// The text without its fenced blocks.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

#[test]
fn every_fence_names_its_language() -> Result<()> {
    for page in pages()? {
        let fences = page.text.lines().filter_map(|line| line.strip_prefix("```"));
        for opening in fences.step_by(2) {
            let known = ["rust", "sh", "text", "toml"].contains(&opening);
            ensure!(known, "{}: a block in {opening:?}", page.name());
        }
    }
    Ok(())
}

#[test]
fn every_configuration_is_accepted() -> Result<()> {
    let mut seen = 0;
    for page in pages()? {
        for text in page.blocks("toml") {
            if let Err(problems) = Document::parse(&text, &page.name()) {
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                anyhow::bail!("{}\nin\n{text}", said.join("\n"));
            }
            seen += 1;
        }
    }
    ensure!(seen >= 15, "only {seen} configurations were found");
    Ok(())
}

/// The words of a command line, without its comment.
fn words(line: &str) -> Vec<OsString> {
    let line = line.split(" #").next().unwrap_or_default();
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word).into()))
            }
            other => word.push(other),
        }
    }
    words.extend((!word.is_empty()).then(|| word.into()));
    words
}

fn is_understood(line: &str) -> Result<()> {
    let words = words(line);
    match args::ipvsadm(&words) {
        Some(applet) => {
            let plain: Vec<String> =
                applet.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let parsed = ipvsadm::parse("ipvsadm", &plain, &ipvsadm::SystemNames::default());
            parsed.map(|_| ()).map_err(|failure| anyhow::anyhow!("{line}: {}", failure.message))
        }
        None => Arguments::try_parse_from(words).map(|_| ()).with_context(|| line.to_owned()),
    }
}

#[test]
fn every_command_line_is_understood() -> Result<()> {
    let mut seen = 0;
    for page in pages()? {
        let scripts = page
            .blocks("sh")
            .into_iter()
            .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
        let sessions = page.blocks("text").into_iter().flat_map(|block| {
            let typed = block.lines().filter_map(|line| line.strip_prefix("$ "));
            typed.map(str::to_owned).collect::<Vec<_>>()
        });
        for line in scripts.chain(sessions).filter(|line| line.starts_with("viaduct ")) {
            is_understood(&line).with_context(|| page.name())?;
            seen += 1;
        }
    }
    ensure!(seen >= 60, "only {seen} command lines were found");
    Ok(())
}

#[test]
fn every_command_has_a_line_in_the_manual() -> Result<()> {
    let manual = fs::read_to_string(root().join("console/manual/en/commands.md"))?;
    let grammar = <Arguments as clap::CommandFactory>::command();
    for command in grammar.get_subcommands().map(clap::Command::get_name) {
        let mentioned = manual.contains(&format!("viaduct {command}"));
        ensure!(mentioned || command == "demo", "commands.md does not show {command}");
    }
    Ok(())
}

#[test]
fn every_reason_for_a_drop_has_a_remedy_in_the_manual() -> Result<()> {
    let manual = fs::read_to_string(root().join("console/manual/en/troubleshooting.md"))?;
    for reason in dataplane::packet_path::DropReason::ALL {
        let row = format!("\n| `{}` | ", reason.label());
        ensure!(manual.contains(&row), "troubleshooting.md does not explain {}", reason.label());
    }
    Ok(())
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let mut seen = 0;
    for page in pages()? {
        let prose = page.prose();
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let named = prose.lines().filter(|line| line.starts_with('['));
        let named = named.filter_map(|line| line.split_once("]: ")).map(|(_, target)| target);
        for target in inline.chain(named).filter(|target| !target.contains("://")) {
            let file = target.split('#').next().unwrap_or_default();
            let beside = page.path.parent().context("a page in no folder")?;
            ensure!(beside.join(file).exists(), "{} links to {target}", page.name());
            seen += 1;
        }
    }
    ensure!(seen >= 30, "only {seen} links were found");
    Ok(())
}

#[test]
fn every_file_that_is_named_exists() -> Result<()> {
    let mut seen = 0;
    for page in pages()? {
        let prose = page.prose();
        let quoted = prose.split('`').skip(1).step_by(2);
        let tops = ["tests/", "dataplane/", "control/", "console/", "image/"];
        let paths = quoted
            .filter(|word| tops.iter().any(|top| word.starts_with(top)) && !word.contains(' '));
        for path in paths {
            ensure!(root().join(path).exists(), "{} names {path}", page.name());
            seen += 1;
        }
    }
    ensure!(seen >= 20, "only {seen} paths were found");
    Ok(())
}

#[test]
fn the_scenario_that_is_shown_is_a_test_of_less_than_twenty_lines() -> Result<()> {
    let path = root().join("tests/README.md");
    let page = Page { text: fs::read_to_string(&path)?, path };
    let shown = page.blocks("rust").into_iter().next().context("no scenario")?;
    ensure!(shown == fs::read_to_string(root().join("tests/first_answer.rs"))?, "it differs");
    ensure!(shown.lines().count() < 20, "{} lines", shown.lines().count());
    Ok(())
}

#[test]
fn the_first_page_is_short_and_begins_with_the_two_commands() -> Result<()> {
    let path = root().join("README.md");
    let page = Page { text: fs::read_to_string(&path)?, path };
    let lines = page.text.lines().count();
    ensure!(lines <= FIRST_PAGE, "README.md has {lines} lines");
    let first = page.blocks("sh").into_iter().next().context("no commands")?;
    let commands: Vec<&str> =
        first.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).collect();
    ensure!(commands == ["cargo run --release -- demo", "tests/run"], "{commands:?}");
    Ok(())
}

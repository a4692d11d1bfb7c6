//! Kernel packages, fetched and unpacked by Debian's own tools.

use super::super::Line;
use super::output;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Depends on the newest kernel of its suite.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Signs Debian's archive; package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suite whose kernel is newer than the stable release's, and stays the newest for as long as
/// the release is supported.
const NEWER: &str = "trixie-backports";

/// Unpacks the newest kernel of a line into a folder of its release's name.
///
/// # Errors
/// No network, no package lists, or no such package.
pub fn fetch(line: Line, folder: &Path) -> Result<()> {
    let apt = match line {
        Line::Installed => Apt::default(),
        Line::Backports => Apt::of_suite(NEWER, folder)?,
    };
    let depends = apt.depends(META_PACKAGE)?;
    let package = depends.iter().find(|name| name.starts_with("linux-image-"));
    let package = package.with_context(|| format!("{META_PACKAGE} depends on {depends:?}"))?;
    let release = package.trim_start_matches("linux-image-");
    // The kernel and its modules are packages of their own since Linux 7.
    let mut packages = apt.depends(package)?;
    packages.retain(|name| name.ends_with(&format!("-{release}")));
    packages.push(package.clone());
    let unpacking = folder.join(format!(".unpacking-{}", std::process::id()));
    let root = unpacking.join("root");
    fs::create_dir_all(&root)?;
    output(apt.command("apt-get").args(["-q", "download"]).args(packages).current_dir(&unpacking))?;
    for entry in fs::read_dir(&unpacking)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&root))?;
        }
    }
    // The rename comes last: a folder with the release's name is always complete.
    fs::rename(&root, folder.join(release))?;
    fs::remove_dir_all(&unpacking)?;
    Ok(())
}

/// apt's programs, as this machine is set up or with package lists of their own.
#[derive(Default)]
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// With one suite of Debian's archive and nothing else. The machine's own lists stay as they are.
    fn of_suite(suite: &str, folder: &Path) -> Result<Self> {
        let place = folder.join(".apt");
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(place.join(part))?;
        }
        let sources = place.join("sources.list");
        let line = format!("deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite} main\n");
        fs::write(&sources, line)?;
        let mut options = vec![
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::Retries=5".into(),
            "APT::Update::Error-Mode=any".into(),
        ];
        for (key, path) in [
            ("Etc::SourceList", &sources),
            ("State::Lists", &place.join("lists")),
            ("Cache", &place),
        ] {
            options.push(format!("Dir::{key}={}", path.display()));
        }
        let apt = Self { options };
        output(apt.command("apt-get").args(["-q", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        // The folders are this user's, not those of apt's own user.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    /// What a package needs, by name.
    fn depends(&self, package: &str) -> Result<Vec<String>> {
        let shown = output(self.command("apt-cache").args(["show", "--no-all-versions", package]))
            .context("has `apt-get update` been run?")?;
        let values = shown.lines().filter_map(|line| line.strip_prefix("Depends: "));
        let names = values.flat_map(|value| value.split(", "));
        Ok(names.filter_map(|name| name.split(' ').next()).map(str::to_owned).collect())
    }
}

//! Debian's cloud kernel, unpacked from its package into a cache under the build's target folder.

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel package.
#[derive(Debug)]
pub struct Kernel {
    /// For example `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// The compressed kernel.
    pub image: PathBuf,
    /// The folder of the cache, for other things derived from this kernel.
    pub folder: PathBuf,
    /// Every module's file by name.
    modules: BTreeMap<String, PathBuf>,
}

/// The newest cached kernel, or one fetched now. Safe against other processes that do the same.
///
/// # Errors
/// Nothing cached and `apt-get download` failed.
pub fn obtain() -> Result<Kernel> {
    let folder = cache_folder()?;
    let _lock = lock(&folder)?;
    if let Some(release) = newest(&folder)? {
        return Kernel::open(&folder, release);
    }
    fetch(&folder).with_context(|| {
        format!("fetching {META_PACKAGE} with apt-get (has `apt-get update` been run?)")
    })?;
    let release = newest(&folder)?.context("the kernel package holds no kernel")?;
    Kernel::open(&folder, release)
}

/// Held while something in the cache is made.
///
/// # Errors
/// The lock file cannot be opened.
pub fn lock(folder: &Path) -> Result<Flock<File>> {
    let file = File::create(folder.join("lock")).context("opening the guest cache's lock file")?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("locking the guest cache")
}

impl Kernel {
    fn open(folder: &Path, release: String) -> Result<Self> {
        let root = folder.join(&release);
        let mut modules = BTreeMap::new();
        collect_modules(&root.join("lib/modules").join(&release), &mut modules)?;
        let image = root.join(format!("boot/vmlinuz-{release}"));
        Ok(Self { release, image, folder: folder.to_owned(), modules })
    }

    /// Reads `name` and all that it needs into `loaded`.
    ///
    /// # Errors
    /// The package has no such module.
    pub fn load(&self, name: &str, loaded: &mut BTreeMap<String, Module>) -> Result<()> {
        if loaded.contains_key(name) {
            return Ok(());
        }
        let path = self.modules.get(name);
        let path = path.with_context(|| format!("{} has no module {name}", self.release))?;
        let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let mut order: Vec<String> = Vec::new();
        for dependency in dependencies(&content) {
            self.load(&dependency, loaded)?;
            for needed in &loaded[&dependency].order {
                if !order.contains(needed) {
                    order.push(needed.clone());
                }
            }
        }
        order.push(name.to_owned());
        loaded.insert(name.to_owned(), Module { content, order });
        Ok(())
    }
}

/// A kernel module.
#[derive(Debug)]
pub struct Module {
    /// The file's content.
    pub content: Vec<u8>,
    /// What has to be loaded, in this order, the module itself last.
    pub order: Vec<String>,
}

/// What the module's `.modinfo` section says in its `depends=` string.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut strings = module.split(|byte| *byte == 0);
    let value = strings.find_map(|string| string.strip_prefix(b"depends="));
    let value = String::from_utf8_lossy(value.unwrap_or_default());
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn collect_modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            collect_modules(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(stem) = path.file_stem()
        {
            found.insert(stem.to_string_lossy().replace('-', "_"), path);
        }
    }
    Ok(())
}

/// `target/guest`: beside the build's own files, so that `cargo clean` removes it.
fn cache_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding the running program")?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let folder = match target {
        Some(target) => target.join("guest"),
        None => std::env::temp_dir().join("viaduct-guest-cache"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

fn newest(folder: &Path) -> Result<Option<String>> {
    let mut releases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if folder.join(&name).join("boot").is_dir() && !name.starts_with('.') {
            releases.push(name);
        }
    }
    releases.sort_by_key(|release| version(release));
    Ok(releases.pop())
}

/// The numbers of a release in order, so that 6.1.0-9 sorts before 6.1.0-56.
fn version(release: &str) -> Vec<u32> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn fetch(folder: &Path) -> Result<()> {
    let shown =
        output(Command::new("apt-cache").args(["show", "--no-all-versions", META_PACKAGE]))?;
    let package = shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .filter_map(|value| value.split([' ', ',']).next())
        .find(|name| name.starts_with("linux-image-"))
        .context("it depends on no kernel package")?;
    let release = package.trim_start_matches("linux-image-");
    let unpacked = folder.join(format!(".unpacking-{}", std::process::id()));
    fs::create_dir_all(&unpacked)?;
    output(Command::new("apt-get").args(["-q", "download", package]).current_dir(&unpacked))?;
    let archive = fs::read_dir(&unpacked)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get left no .deb file")?;
    output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(unpacked.join("root")))?;
    // The rename comes last: a folder with the release's name is always complete.
    fs::rename(unpacked.join("root"), folder.join(release))?;
    fs::remove_dir_all(&unpacked)?;
    Ok(())
}

/// Runs a program of the host and returns its standard output.
///
/// # Errors
/// It is missing, or ended with another code than 0.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {messages}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_sort_by_number() {
        assert!(version("6.1.0-9-cloud-amd64") < version("6.1.0-56-cloud-amd64"));
        assert!(version("6.1.0-56-cloud-amd64") < version("6.12.1-1-cloud-amd64"));
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let module = b"ELF\0license=GPL\0depends=nf_conntrack,libcrc32c\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["nf_conntrack", "libcrc32c"]);
        assert!(dependencies(b"ELF\0depends=\0name=x\0").is_empty());
        assert!(dependencies(b"ELF").is_empty());
    }
}

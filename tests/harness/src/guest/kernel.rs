//! Debian's cloud kernels, unpacked from their packages into a cache under the build's target folder.

mod package;

use super::Line;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An unpacked kernel.
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
    /// What this kernel has without a module.
    built_in: BTreeSet<String>,
}

/// The newest cached kernel of a line, or one fetched now. Safe against other processes that do the
/// same.
///
/// # Errors
/// Nothing cached and nothing could be fetched.
pub fn obtain(line: Line) -> Result<Kernel> {
    let folder = cache_folder()?.join(line.name());
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let _lock = lock(&folder)?;
    if let Some(release) = newest(&folder)? {
        return Kernel::open(&folder, release);
    }
    package::fetch(line, &folder)
        .with_context(|| format!("fetching the kernel of {}", line.name()))?;
    let release = newest(&folder)?.context("the kernel's packages hold no kernel")?;
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
        // Debian 13's packages have everything below /usr; those of its backports have the kernel
        // beside the modules.
        let below = |places: [String; 2]| {
            let found = places.iter().map(|place| root.join(place)).find(|path| path.exists());
            found.with_context(|| format!("{} has neither of {places:?}", root.display()))
        };
        let installed =
            below([format!("lib/modules/{release}"), format!("usr/lib/modules/{release}")])?;
        let image = below([
            format!("boot/vmlinuz-{release}"),
            format!("usr/lib/modules/{release}/vmlinuz"),
        ])?;
        let mut modules = BTreeMap::new();
        collect_modules(&installed.join("kernel"), &mut modules)?;
        let listed = fs::read_to_string(installed.join("modules.builtin"));
        let listed = listed.with_context(|| format!("{release}: what is built in"))?;
        let built_in = listed.lines().filter_map(|path| module_name(Path::new(path))).collect();
        Ok(Self { release, image, folder: folder.to_owned(), modules, built_in })
    }

    /// Reads `name` and all that it needs into `loaded`. What is built in is there with nothing to
    /// load.
    ///
    /// # Errors
    /// This kernel has no such module.
    pub fn load(&self, name: &str, loaded: &mut BTreeMap<String, Module>) -> Result<()> {
        if loaded.contains_key(name) {
            return Ok(());
        }
        if self.built_in.contains(name) {
            let nothing = Module { content: Vec::new(), order: Vec::new() };
            loaded.insert(name.to_owned(), nothing);
            return Ok(());
        }
        let path = self.modules.get(name);
        let path = path.with_context(|| format!("{} has no module {name}", self.release))?;
        let content = read_module(path)?;
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
    /// The file's content; empty for what is built in.
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

/// A module's file; Debian compresses them since its 13th release.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let unpacked = Command::new("busybox").arg("xzcat").arg(path).output();
    let unpacked = unpacked.context("starting busybox (busybox-static)")?;
    if !unpacked.status.success() {
        bail!("unpacking {}: {}", path.display(), String::from_utf8_lossy(&unpacked.stderr));
    }
    Ok(unpacked.stdout)
}

/// The name of the module in a file such as `net/8021q/8021q.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let name = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(name.replace('-', "_"))
}

fn collect_modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            collect_modules(&path, found)?;
        } else if let Some(name) = module_name(&path) {
            found.insert(name, path);
        }
    }
    Ok(())
}

/// `target/guest`: beside the build's own files, so that `cargo clean` removes it.
fn cache_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding the running program")?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(match target {
        Some(target) => target.join("guest"),
        None => std::env::temp_dir().join("viaduct-guest-cache"),
    })
}

/// The newest release that is there as a whole.
fn newest(folder: &Path) -> Result<Option<String>> {
    let mut releases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && name.starts_with(|first: char| first.is_ascii_digit()) {
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

    #[test]
    fn modules_are_named_by_their_files() {
        let name = |path: &str| module_name(Path::new(path));
        assert_eq!(name("net/8021q/8021q.ko").as_deref(), Some("8021q"));
        assert_eq!(name("a/nf-tables.ko.xz").as_deref(), Some("nf_tables"));
        assert_eq!(name("a/modules.order"), None);
    }
}

//! The initramfs that the guest boots into: busybox, the host's network tools, kernel modules.

use super::cpio::Archive;
use super::kernel::{Kernel, lock, output};
use super::{IPVS, NFTABLES, STACKED_LINKS, TUNNELS, VIADUCT, VIRTUAL_LINKS};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

const BUSYBOX: &str = "/usr/bin/busybox";
/// Copied from the host with the libraries that they load. Commands run in dash, because busybox's
/// shell would take its own `ip` whatever `PATH` says.
const PROGRAMS: &[&str] = &["/bin/dash", "/usr/sbin/ipvsadm", "/usr/sbin/ip", "/usr/sbin/nft"];
const DRIVERS: &[&str] = &["virtio_pci", "virtio_console", "virtio_net"];

/// The boot image for this kernel, built when its content changed.
///
/// # Errors
/// A program or module that belongs in is missing on this machine.
pub fn obtain(kernel: &Kernel) -> Result<PathBuf> {
    let content = build(kernel)?;
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let path = kernel.folder.join(format!("initramfs-{:016x}.cpio", hasher.finish()));
    let _lock = lock(&kernel.folder)?;
    if !path.exists() {
        let part = path.with_extension("part");
        fs::write(&part, &content).with_context(|| format!("writing {}", part.display()))?;
        fs::rename(&part, &path)?;
    }
    Ok(path)
}

fn build(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let mut folders = BTreeSet::new();
    for folder in ["bin", "lib/modules", "usr/sbin"] {
        make_folders(&mut archive, &mut folders, &format!("{folder}/x"));
    }
    archive.file("init", include_bytes!("init.sh"));
    archive.file("bin/load-modules", include_bytes!("load-modules.sh"));
    let busybox = fs::read(BUSYBOX).context("reading /usr/bin/busybox (busybox-static)")?;
    archive.file("bin/busybox", &busybox);
    archive.symlink("bin/sh", "dash");
    add_modules(kernel, &mut archive)?;
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        if !Path::new(program).exists() {
            bail!("{program} is missing (Debian packages: dash ipvsadm iproute2 nftables)");
        }
        files.insert(PathBuf::from(program));
        files.extend(libraries(program)?);
    }
    for file in files {
        let name = file.to_string_lossy().trim_start_matches('/').to_owned();
        make_folders(&mut archive, &mut folders, &name);
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        archive.file(&name, &content);
    }
    Ok(archive.finish())
}

fn add_modules(kernel: &Kernel, archive: &mut Archive) -> Result<()> {
    let mut loaded = BTreeMap::new();
    let sets = [DRIVERS, IPVS, TUNNELS, NFTABLES, VIRTUAL_LINKS, STACKED_LINKS, VIADUCT];
    for name in sets.concat() {
        kernel.load(name, &mut loaded)?;
    }
    for (name, module) in &loaded {
        if !module.content.is_empty() {
            archive.file(&format!("lib/modules/{name}.ko"), &module.content);
        }
        let line = format!("{}\n", module.order.join(" "));
        archive.file(&format!("lib/modules/{name}.needs"), line.as_bytes());
    }
    Ok(())
}

fn make_folders(archive: &mut Archive, made: &mut BTreeSet<String>, file: &str) {
    for (end, _) in file.match_indices('/') {
        if made.insert(file[..end].to_owned()) {
            archive.folder(&file[..end]);
        }
    }
}

/// Shared libraries and the loader, as `ldd` prints them.
fn libraries(program: &str) -> Result<Vec<PathBuf>> {
    let listed = output(Command::new("ldd").arg(program))?;
    let paths =
        listed.lines().filter_map(|line| line.split_whitespace().find(|w| w.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

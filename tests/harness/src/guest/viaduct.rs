//! The daemon under test inside a guest.

use super::Guest;
use super::folder::Folder;
use super::kernel::output;
use crate::wait;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What the binary loads besides what the boot image's own programs do.
const LIBRARIES: [&str; 2] = ["libgcc_s.so.1", "libm.so.6"];

const CONFIG: &str = "/run/viaduct.toml";
const LOG: &str = "/run/viaduct.log";

/// Far more than starting and ending take in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Guest {
    /// Copies the daemon into the guest, as `/bin/viaduct`, without what only debuggers read. The
    /// guest needs the modules [`super::VIADUCT`].
    ///
    /// # Errors
    /// No such file, or `strip` is missing.
    pub fn install_viaduct(&mut self, binary: &Path) -> Result<()> {
        let folder = Folder::new("stripped")?;
        let stripped = folder.path().join("viaduct");
        output(Command::new("strip").arg("-o").arg(&stripped).arg(binary))
            .context("package binutils")?;
        self.put_file("/bin/viaduct", &fs::read(&stripped)?)?;
        for library in LIBRARIES {
            let path = format!("/lib/x86_64-linux-gnu/{library}");
            if self.run(&format!("test -e {path}"))?.code != 0 {
                self.put_file(&path, &fs::read(&path)?)?;
            }
        }
        self.sh("chmod 755 /bin/viaduct; mkdir -p /dev/net /var/lib; \
                 [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200")?;
        Ok(())
    }

    /// Starts the daemon with this configuration and returns when `viaduct show interfaces` has a
    /// line with all of `wanted` for each of `interfaces`.
    ///
    /// # Errors
    /// It does not come to that; the message has what the daemon said.
    pub fn start_viaduct(
        &mut self,
        config: &str,
        interfaces: &[&str],
        wanted: &[&str],
    ) -> Result<()> {
        self.put_file(CONFIG, config.as_bytes())?;
        self.sh(&format!(
            "viaduct run --config {CONFIG} --console off >{LOG} 2>&1 </dev/null & \
             echo $! >/run/viaduct.pid"
        ))?;
        let state = |guest: &mut Self| guest.run("viaduct show interfaces");
        let started = wait::until_ok("the daemon's start", PATIENCE, || {
            let output = state(self)?;
            let shown = output.stdout + &output.stderr;
            let served = |name: &&str| {
                let line = shown.lines().find(|line| line.split_whitespace().next() == Some(*name));
                line.is_some_and(|line| wanted.iter().all(|words| line.contains(words)))
            };
            ensure!(interfaces.iter().all(served), "no {wanted:?} on {interfaces:?}:\n{shown}");
            Ok(())
        });
        match started {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(self.viaduct_log()?)),
        }
    }

    /// Ends the daemon with a signal such as `TERM`, and returns when it is gone.
    ///
    /// # Errors
    /// It does not run, or did not end.
    pub fn end_viaduct(&mut self, signal: &str) -> Result<()> {
        self.sh(&format!("kill -{signal} $(cat /run/viaduct.pid)"))?;
        wait::until_ok("the daemon's end", PATIENCE, || {
            let alive = self.run("kill -0 $(cat /run/viaduct.pid)")?.code == 0;
            ensure!(!alive, "it goes on after SIG{signal}");
            Ok(())
        })
    }

    /// What the daemon said so far.
    ///
    /// # Errors
    /// It was never started.
    pub fn viaduct_log(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.get_file(LOG)?).into_owned())
    }
}

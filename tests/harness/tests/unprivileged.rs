//! A lab without root: in a user namespace of its own, as `viaduct demo` makes one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::Lab;

/// Set in the copy of this program that runs without privilege.
const INSIDE: &str = "VIADUCT_LAB_UNPRIVILEGED";
/// The user that owns nothing.
const NOBODY: &str = "65534";

#[test]
fn two_hosts_reach_each_other_in_a_lab_of_an_ordinary_user() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("unprivileged-lab-{}", std::process::id()));
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))?;
    let outcome = run_as_nobody(&directory);
    fs::remove_dir_all(&directory)?;
    outcome
}

fn run_as_nobody(directory: &std::path::Path) -> Result<()> {
    // The build directory may be closed to others.
    let program = directory.join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    let drop = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps=-all"];
    let become_root_inside = ["unshare", "--user", "--map-root-user", "--net", "--mount"];
    let allowed =
        Command::new("setpriv").args(drop).args(become_root_inside).arg("true").output()?;
    if !allowed.status.success() {
        let reason = String::from_utf8_lossy(&allowed.stderr);
        ensure!(reason.contains("unshare"), "setpriv: {reason}");
        println!("this kernel gives ordinary users no namespaces: {reason}");
        return Ok(());
    }
    let output = Command::new("setpriv")
        .args(drop)
        .args(become_root_inside)
        .arg(&program)
        .args(["--ignored", "--exact", "inside_the_user_namespace"])
        .env(INSIDE, "1")
        .env("TMPDIR", directory)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
#[ignore = "run by the test above, without privilege"]
fn inside_the_user_namespace() -> Result<()> {
    std::env::var(INSIDE).context("not started by the other test")?;
    ensure!(!harness::privilege::is_initial_user_namespace());
    let lab = Lab::new("ordinary")?;
    let wire = lab.network("wire")?;
    let (client, server) = (lab.host("client")?, lab.host("server")?);
    client.attach(&wire, &["192.0.2.1/24"])?;
    server.attach(&wire, &["192.0.2.2/24"])?;
    let _backend = harness::backend::Backend::http(&server, "[::]:80")?;
    let page = client.run_ok(&["curl", "-sS", "--max-time", "10", "http://192.0.2.2/"])?;
    ensure!(page == "server\n", "{page:?}");
    Ok(())
}

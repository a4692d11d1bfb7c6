//! A director that is killed comes back with its services; one that is asked to stop stops in order.

use crate::prelude::BINARY;
use std::path::Path;

use anyhow::Result;
use harness::backend::Backend;
use harness::{Director, Site};

const RULES: &str = "
    -A -t 192.0.2.10:80 -s wrr -p 120
    -a -t 192.0.2.10:80 -r 10.0.0.11:80 -m -w 2
    -A -u 192.0.2.10:53 -s sh -b sh-port
    -a -u 192.0.2.10:53 -r 10.0.0.11:53 -m -x 500 -y 400";

fn curl(site: &Site) -> Result<String> {
    site.client.run_ok(&["curl", "-sS", "--max-time", "10", "http://192.0.2.10/"])
}

#[test]
fn after_kill_9_the_services_are_back_and_balance() -> Result<()> {
    let site = Site::new("killed", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let mut director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(RULES)?;
    assert_eq!(curl(&site)?, "real1\n");
    let before = director.ipvsadm(&["-S", "-n"])?;
    assert_eq!(before.lines().count(), 4, "{before}");
    for _ in 0..3 {
        director.kill();
        director.restart()?;
        assert_eq!(director.ipvsadm(&["-S", "-n"])?, before);
        assert_eq!(curl(&site)?, "real1\n");
    }
    Ok(())
}

#[test]
fn an_orderly_stop_ends_with_0_and_keeps_the_services() -> Result<()> {
    let site = Site::new("stopped", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let mut director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(RULES)?;
    let before = director.ipvsadm(&["-S", "-n"])?;
    director.shut_down()?;
    director.restart()?;
    assert_eq!(director.ipvsadm(&["-S", "-n"])?, before);
    assert_eq!(curl(&site)?, "real1\n");
    Ok(())
}

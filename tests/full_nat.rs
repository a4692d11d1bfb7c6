//! Full NAT: the real server sees an address of the director, so it may be anywhere that the director
//! can reach, with any gateway.

use crate::prelude::director_on;

use anyhow::Result;
use harness::Site;
use harness::backend::Backend;

const CONFIG: &str = r#"
[[service]]
name = "four"
address = "192.0.2.10:80"
scheduler = "rr"
method = "fullnat"
  [[service.real]]
  address = "10.9.0.11:80"
  [[service.real]]
  address = "10.0.0.11:80"

[[service]]
name = "six"
address = "[2001:db8::10]:80"
scheduler = "rr"
method = "fullnat"
  [[service.real]]
  address = "[2001:db8:9::11]:80"
  [[service.real]]
  address = "[2001:db8:a::11]:80"
"#;

#[test]
fn real_servers_with_another_gateway_answer_through_the_director() -> Result<()> {
    let site = Site::new("fullnat", 1, 1)?;
    let _servers =
        [Backend::http(&site.remotes[0], "[::]:80")?, Backend::http(&site.reals[0], "[::]:80")?];
    // The inside one would answer past the director as well.
    site.reals[0].route("default", "10.0.0.1")?;
    site.reals[0].route("default", "2001:db8:a::1")?;
    let director = director_on(&site.director, CONFIG)?;
    for vip in ["192.0.2.10", "[2001:db8::10]"] {
        let ask = |path: &str| {
            let url = format!("http://{vip}/{path}");
            site.client.run_ok(&["curl", "-sS", "--max-time", "10", &url])
        };
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(ask("")?);
        }
        names.sort();
        assert_eq!(names, ["real1\n", "real1\n", "remote1\n", "remote1\n"], "{vip}");
        for _ in 0..2 {
            let seen = ask("client")?;
            let own = ["10.0.0.254", "2001:db8:a::254"];
            assert!(own.contains(&seen.trim().trim_start_matches("::ffff:")), "{vip}: {seen}");
            assert_eq!(ask("bytes/1000000")?.len(), 1_000_000);
        }
    }
    let statistics = director.statistics()?;
    for service in statistics {
        let total = service.columns.unwrap_or_default();
        assert_eq!(total.connections, 8);
        assert!(total.out_bytes > 2_000_000, "replies pass the director: {total:?}");
    }
    Ok(())
}

//! The smallest scenario: a service, two real servers, and each answers in turn.

use crate::prelude::*;

const CONFIG: &str = r#"
service = [{ name = "web", address = "192.0.2.10:80", scheduler = "rr", real = [
    { address = "10.0.0.11:80" }, { address = "10.0.0.12:80" } ] }]"#;

#[test]
fn two_real_servers_answer_in_turn() -> Result<()> {
    let site = Site::new("firstanswer", 2, 0)?;
    let _servers = site.serve()?;
    let director = director_on(&site.director, CONFIG)?;
    ensure!(site.get("/")? != site.get("/")?, "the same one twice");
    let second = |s: &serde_json::Value| s[0]["reals"][1]["traffic"]["connections"] == 1;
    director.until("services", second)?;
    Ok(())
}

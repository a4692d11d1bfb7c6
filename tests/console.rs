//! The console as a browser without scripts meets it: set-up, sign-in, roles for every route, and what
//! strangers try.

use crate::prelude::BINARY;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Director, Site, wait};

const LIMIT: Duration = Duration::from_secs(20);
const HOME: &str = "https://127.0.0.1:8443";
const PASSWORD: &str = "correct horse";

const CONFIG: &str = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
[service.check]
type = "tcp"
interval = "100ms"
fall = 1
[[service.real]]
address = "10.0.0.11:80"
[[service.real]]
address = "10.0.0.12:80"
"#;

/// What curl got: the status, the header lines, and the body.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

struct Scene {
    director: Director,
    servers: Vec<Backend>,
    site: Site,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        let site = Site::new(name, 2, 0)?;
        let servers =
            site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
        let more = ["--console", "127.0.0.1:8443"];
        let director =
            Director::start_with(&site.director, Path::new(BINARY), Some(CONFIG), &more)?;
        Ok(Self { director, servers, site })
    }

    fn curl(&self, path: &str, more: &[&str]) -> Result<Answer> {
        let url = format!("{HOME}{path}");
        let all = [&["curl", "-sk", "-D", "-", "--max-time", "10"], more, &[url.as_str()]].concat();
        let text = self.director.host().run_ok(&all)?;
        // What was asked to wait is answered twice.
        let text = text.rsplit_once("HTTP/2 ").context("no answer")?.1;
        let (headers, body) = text.split_once("\r\n\r\n").context("no end of headers")?;
        let status = headers.split([' ', '\r']).next().context("no status")?.parse()?;
        Ok(Answer { status, headers: headers.to_owned(), body: body.to_owned() })
    }

    /// A form, as the console's own pages send it.
    fn post(&self, path: &str, form: &str, more: &[&str]) -> Result<Answer> {
        let own = ["-H", "sec-fetch-site: same-origin", "--data", form];
        self.curl(path, &[&own, more].concat())
    }

    fn set_up(&self) -> Result<String> {
        let code = self.director.viaduct(&["user", "setup-code"])?;
        let form = format!("code={}&name=chen&password={PASSWORD}", code.trim());
        let answer = self.post("/setup", &form, &[])?;
        ensure!(answer.status == 303, "{answer:?}");
        cookie(&answer)
    }

    fn token(&self, role: &str) -> Result<String> {
        let made = self.director.viaduct(&["token", "add", role, "--role", role])?;
        Ok(format!("authorization: Bearer {}", made.trim()))
    }
}

/// The session that an answer opens, as a header for the next request.
fn cookie(answer: &Answer) -> Result<String> {
    let set = answer.header("set-cookie").context("no cookie")?;
    for flag in ["__Host-", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        ensure!(set.contains(flag), "{set}");
    }
    Ok(format!("cookie: {}", set.split(';').next().context("empty")?))
}

#[test]
fn a_stranger_sets_nothing_up_without_the_code_and_the_code_changes_when_guessed() -> Result<()> {
    let scene = Scene::new("consolesetup")?;
    let first = scene.curl("/", &[])?;
    ensure!(first.status == 303 && first.header("location") == Some("/setup"), "{first:?}");
    let code = scene.director.viaduct(&["user", "setup-code"])?;
    for _ in 0..3 {
        let form = format!("code=AAAA-AAAA-AAAA&name=eve&password={PASSWORD}");
        let refused = scene.post("/setup", &form, &[])?;
        ensure!(
            refused.status == 403 && refused.body.contains("not the set-up code"),
            "{refused:?}"
        );
    }
    ensure!(scene.director.viaduct(&["user", "setup-code"])? != code, "it is still the same");
    let short = format!("code={}&name=chen&password=short", code.trim());
    ensure!(scene.post("/setup", &short, &[])?.status == 403, "the old code is good no longer");
    let session = scene.set_up()?;
    ensure!(scene.curl("/", &["-H", &session])?.body.contains("All is well"));
    let again = scene.curl("/setup", &[])?;
    ensure!(again.header("location") == Some("/login"), "{again:?}");
    ensure!(!scene.director.run(&["user", "setup-code"])?.status.success());
    Ok(())
}

#[test]
fn every_route_is_for_its_role_and_those_above() -> Result<()> {
    let scene = Scene::new("consoleroles")?;
    scene.set_up()?;
    let roles = ["viewer", "operator", "administrator"];
    let tokens = roles.iter().map(|role| scene.token(role)).collect::<Result<Vec<_>>>()?;
    let foreign = format!("authorization: Bearer {}", "0".repeat(64));
    for route in console::web::ROUTES {
        let path = route.path.replace("{service}", "web").replace("{real}", "10.0.0.99%3A80");
        let path = path.replace("{name}", "none");
        let data: &[&str] = if route.method == "POST" { &["--data", ""] } else { &[] };
        let ask = |header: Option<&str>| {
            let header = header.map(|header| ["-H", header]);
            scene.curl(&path, &[data, header.as_ref().map_or(&[], |pair| pair)].concat())
        };
        let least = route.role.map(|role| role.name());
        for stranger in [None, Some(foreign.as_str())] {
            let status = ask(stranger)?.status;
            let kept_out = status == 401 || status == 303;
            ensure!(
                least.is_none() || kept_out,
                "{} {path}: {status} for {stranger:?}",
                route.method
            );
        }
        for (rank, token) in tokens.iter().enumerate() {
            let status = ask(Some(token))?.status;
            let allowed =
                least.is_none_or(|least| roles.iter().position(|r| *r == least) <= Some(rank));
            let refused = status == 401 || (status == 403 && least.is_some());
            ensure!(
                allowed != refused && status < 500,
                "{} {path}: {status} for {}",
                route.method,
                roles[rank]
            );
        }
    }
    Ok(())
}

#[test]
fn an_operator_drains_and_puts_back_and_a_dead_server_is_red_with_its_reason() -> Result<()> {
    let mut scene = Scene::new("consoledrain")?;
    let session = scene.set_up()?;
    let auth = ["-H", session.as_str()];
    let server = "/services/web/servers/10.0.0.11%3A80";
    let ask = scene.curl(&format!("{server}/drain"), &auth)?;
    ensure!(ask.body.contains("It gets no new connections."), "{}", ask.body);
    let drained = scene.post(&format!("{server}/drain"), "within=10m&reason=new+disk", &auth)?;
    ensure!(drained.status == 303 && drained.header("location") == Some("/services/web"));
    let page = scene.curl("/services/web", &auth)?.body;
    ensure!(
        page.contains("Drained") && page.contains("by chen") && page.contains("new disk"),
        "{page}"
    );
    ensure!(scene.director.viaduct(&["show", "services"])?.contains("drained"));
    ensure!(scene.post(&format!("{server}/put-back"), "", &auth)?.status == 303);
    ensure!(scene.post(&format!("{server}/put-back"), "", &auth)?.status == 409, "it is back");

    ensure!(scene.post(&format!("{server}/weight"), "weight=7", &auth)?.status == 303);
    ensure!(scene.director.ipvsadm(&["-L", "-n"])?.contains("7"), "the weight");
    let history = scene.director.viaduct(&["history"])?;
    wait::until_ok("the author of the weight", LIMIT, || {
        let history = scene.director.viaduct(&["history"])?;
        ensure!(history.contains("chen"), "{history}");
        Ok(())
    })
    .context(history)?;

    scene.servers[1].stop();
    wait::until_ok("the dead server", LIMIT, || {
        let page = scene.curl("/services/web", &auth)?.body;
        ensure!(page.contains("Down since") && page.contains("connection refused"), "{page}");
        ensure!(scene.curl("/", &auth)?.body.contains("One server left"));
        Ok(())
    })?;
    let chinese = ["-H", session.as_str(), "-H", "accept-language: zh-CN"];
    ensure!(scene.curl("/", &chinese)?.body.contains("只剩一台服务器"));
    Ok(())
}

#[test]
fn other_sites_sessions_that_ended_and_guesses_get_nowhere() -> Result<()> {
    let scene = Scene::new("consolestrangers")?;
    let session = scene.set_up()?;
    let drain = "/services/web/servers/10.0.0.11%3A80/drain";
    let from = |more: &[&str]| {
        let all = [&["-H", session.as_str(), "--data", "within="], more].concat();
        Ok::<_, anyhow::Error>(scene.curl(drain, &all)?.status)
    };
    for foreign in [&[][..], &["-H", "origin: https://evil"], &["-H", "sec-fetch-site: cross-site"]]
    {
        ensure!(from(foreign)? == 403, "{foreign:?}");
    }
    ensure!(!scene.director.viaduct(&["show", "services"])?.contains("drained"));
    let page = scene.curl("/login?then=//evil", &[])?;
    for (name, value) in
        [("content-security-policy", "default-src 'none'"), ("x-frame-options", "DENY")]
    {
        ensure!(page.header(name).is_some_and(|own| own.contains(value)), "{page:?}");
    }
    let login = |name: &str, password: &str, then: &str| {
        scene.post("/login", &format!("name={name}&password={password}&then={then}"), &[])
    };
    let away = login("chen", PASSWORD, "//evil")?;
    ensure!(away.header("location") == Some("/"), "{away:?}");
    let second = cookie(&away)?;
    ensure!(second != session, "each sign-in has a session of its own");
    ensure!(scene.post("/logout", "", &["-H", &session])?.status == 303);
    ensure!(scene.curl("/", &["-H", &session])?.status == 303, "it has ended");
    ensure!(scene.curl("/", &["-H", &second])?.status == 200, "the other has not");
    let statuses: Vec<u16> = (0..8)
        .map(|_| Ok(login("nobody", "wrong wrong wrong", "")?.status))
        .collect::<Result<_>>()?;
    ensure!(statuses[..5] == [403; 5] && statuses.contains(&429), "{statuses:?}");
    Ok(())
}

/// A form's text.
fn encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric();
    let escape =
        |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

/// What the editing page sends with its text: the version that it was made of.
fn base(page: &Answer) -> Result<&str> {
    let rest = page.body.split(r#"name="base" value=""#).nth(1).context("no base")?;
    rest.split('"').next().context("no end")
}

#[test]
fn a_change_on_trial_is_kept_or_comes_back_and_two_editors_do_not_overwrite_each_other()
-> Result<()> {
    let scene = Scene::new("consoleconfig")?;
    let session = scene.set_up()?;
    let auth = ["-H", session.as_str()];
    let mine = scene.curl("/config/edit", &auth)?;
    let theirs = scene.curl("/config/edit", &auth)?;
    let changed = CONFIG.replace(r#"scheduler = "rr""#, r#"scheduler = "wlc""#);
    let send = |page: &Answer, text: &str, more: &str| {
        let form = format!("base={}&text={}&{more}", base(page)?, encoded(text));
        scene.post("/config/edit", &form, &auth)
    };

    let bad = send(&mine, &CONFIG.replace("scheduler", "shceduler"), "apply=yes")?;
    ensure!(bad.status == 422 && bad.body.contains("Line 5, column 1"), "{}", bad.body);
    let checked = send(&mine, &changed, "")?;
    ensure!(checked.status == 200 && checked.body.contains("wlc"), "{}", checked.body);
    ensure!(!scene.director.ipvsadm(&["-L", "-n"])?.contains("wlc"), "checking changes nothing");

    let applied = send(&mine, &changed, "apply=yes&trial=30s&comment=try+wlc")?;
    ensure!(applied.status == 303, "{}", applied.body);
    ensure!(scene.director.ipvsadm(&["-L", "-n"])?.contains("wlc"));
    let trial = scene.curl("/config", &auth)?.body;
    ensure!(trial.contains("runs on trial") && trial.contains("Keep revision 2"), "{trial}");
    ensure!(scene.curl("/services", &auth)?.body.contains("runs on trial"), "on every page");
    ensure!(scene.post("/config/take-back", "", &auth)?.status == 303);
    ensure!(!scene.director.ipvsadm(&["-L", "-n"])?.contains("wlc"), "it was taken back");

    let late = send(&theirs, &changed, "apply=yes&trial=30s")?;
    ensure!(late.status == 412, "{}", late.body);
    ensure!(late.body.contains("changed the configuration while you edited it"), "{}", late.body);
    ensure!(!scene.director.ipvsadm(&["-L", "-n"])?.contains("wlc"), "nothing was overwritten");
    ensure!(send(&late, &changed, "apply=yes&trial=1s")?.status == 303);
    wait::until_ok("the end of the trial", LIMIT, || {
        ensure!(!scene.director.ipvsadm(&["-L", "-n"])?.contains("wlc"));
        Ok(())
    })?;
    let now = scene.curl("/config/edit", &auth)?;
    ensure!(send(&now, &changed, "apply=yes&trial=30s")?.status == 303);
    ensure!(scene.post("/config/confirm", "", &auth)?.status == 303);
    ensure!(!scene.curl("/config", &auth)?.body.contains("runs on trial"));
    let first = scene.curl("/config/revisions/1", &auth)?;
    ensure!(first.body.contains("Go back to revision 1"), "{}", first.body);
    ensure!(scene.post("/config/revisions/1", "", &auth)?.status == 303);
    ensure!(scene.director.ipvsadm(&["-L", "-n"])?.contains("rr"), "on trial again");
    Ok(())
}

#[test]
fn connections_are_found_explained_and_ended_with_their_count_shown_first() -> Result<()> {
    let scene = Scene::new("consoleflows")?;
    let session = scene.set_up()?;
    let auth = ["-H", session.as_str()];
    ensure!(scene.site.get("/")?.starts_with("real"));
    ensure!(scene.site.get("/")?.starts_with("real"));
    let client = "192.0.2.100";
    let list = scene.curl(&format!("/connections?client={client}"), &auth)?.body;
    ensure!(list.matches(r#"class="m" translate="no">192.0.2.100:"#).count() == 2, "{list}");
    let none = scene.curl("/connections?client=192.0.2.7", &auth)?.body;
    ensure!(none.contains("Nothing matches"), "{none}");
    ensure!(scene.curl("/connections?client=nobody", &auth)?.status == 400);
    let explained = scene.curl(&format!("/explain?from={client}&to=192.0.2.10:80"), &auth)?.body;
    ensure!(explained.contains("It goes to 10.0.0.1"), "{explained}");
    let ask = scene.curl(&format!("/connections/end?client={client}"), &auth)?;
    ensure!(ask.body.contains("2 connections match."), "{}", ask.body);
    ensure!(scene.curl("/connections/end", &auth)?.status == 400, "not all without a condition");
    ensure!(scene.post("/connections/end", &format!("client={client}"), &auth)?.status == 303);
    wait::until_ok("the connections to end", LIMIT, || {
        let list = scene.curl(&format!("/connections?client={client}"), &auth)?.body;
        ensure!(list.contains("Nothing matches"), "{list}");
        Ok(())
    })?;
    ensure!(scene.curl("/drops", &auth)?.status == 200);
    ensure!(scene.curl("/ha", &auth)?.body.contains("This director stands alone"));
    Ok(())
}

/// The code of a second factor at this moment, as an authenticator application computes it.
fn totp(scene: &Scene, secret: &str) -> Result<String> {
    let code = format!(
        "import hmac,hashlib,base64,struct,time\nk=base64.b32decode('{secret}')\n\
         h=hmac.new(k,struct.pack('>Q',int(time.time())//30),hashlib.sha1).digest()\n\
         o=h[-1]&15\nprint('%06d'%((struct.unpack('>I',h[o:o+4])[0]&0x7fffffff)%1000000))"
    );
    Ok(scene.director.host().run_ok(&["python3", "-c", &code])?.trim().to_owned())
}

/// What stands between two texts of a page.
fn between<'a>(page: &'a str, before: &str, after: &str) -> Result<&'a str> {
    let rest = page.split(before).nth(1).with_context(|| format!("no {before:?} in {page}"))?;
    rest.split(after).next().context("no end")
}

#[test]
fn accounts_change_their_password_and_second_factor_and_roles_hold_at_once() -> Result<()> {
    let scene = Scene::new("consoleaccounts")?;
    let session = scene.set_up()?;
    let auth = ["-H", session.as_str()];
    let added = scene.post("/users", "name=li&role=operator&password=another+horse", &auth)?;
    ensure!(added.status == 303, "{added:?}");
    let login = |name: &str, password: &str, code: &str| {
        scene.post("/login", &format!("name={name}&password={password}&code={code}"), &[])
    };
    let li = cookie(&login("li", "another+horse", "")?)?;
    let theirs = ["-H", li.as_str()];
    ensure!(scene.curl("/users", &theirs)?.status == 403, "an operator");
    ensure!(scene.curl("/connections/end?client=192.0.2.7", &theirs)?.status == 200);
    ensure!(scene.post("/users/li/role", "role=viewer", &auth)?.status == 303);
    ensure!(scene.curl("/", &theirs)?.status == 303, "another role ends the sessions");
    ensure!(scene.post("/users/chen/role", "role=viewer", &auth)?.status == 409, "the last one");
    ensure!(scene.post("/users/chen/remove", "", &auth)?.status == 409);

    let wrong = scene.post("/account/password", "old=x&new=yet+another+horse", &auth)?;
    ensure!(wrong.body.contains("not the present password"), "{}", wrong.body);
    let change = format!("old={PASSWORD}&new=yet+another+horse");
    ensure!(scene.post("/account/password", &change, &auth)?.status == 303);
    ensure!(login("chen", PASSWORD, "")?.status == 403);

    let offer = scene.post("/account/second-factor", "", &auth)?.body;
    let secret = between(&offer, r#"name="secret" value=""#, "\"")?;
    let confirm = |code: &str| {
        let form = format!("secret={secret}&code={code}");
        Ok::<_, anyhow::Error>(scene.post("/account/second-factor/confirm", &form, &auth)?.body)
    };
    ensure!(confirm("000000")?.contains("Nothing was changed"), "a wrong code");
    let confirmed = confirm(&totp(&scene, secret)?)?;
    let codes = between(&confirmed, r#"<code translate="no">"#, "</code>")?;
    let recovery: Vec<&str> = codes.split_whitespace().collect();
    ensure!(recovery.len() == 10, "{recovery:?}");
    ensure!(login("chen", "yet+another+horse", "")?.status == 403, "without a code");
    ensure!(login("chen", "yet+another+horse", recovery[0])?.status == 303);
    ensure!(login("chen", "yet+another+horse", recovery[0])?.status == 403, "good once");
    let remove =
        scene.post("/account/second-factor/remove", "password=yet+another+horse", &auth)?;
    ensure!(remove.status == 303, "{remove:?}");
    ensure!(login("chen", "yet+another+horse", "")?.status == 303);
    Ok(())
}

#[test]
fn monitoring_reads_the_numbers_by_a_token_and_strangers_only_that_it_lives() -> Result<()> {
    let scene = Scene::new("consolemetrics")?;
    ensure!(scene.curl("/healthz", &[])?.body == "ok\n");
    ensure!(scene.curl("/ready", &[])?.body == "ready\n");
    scene.set_up()?;
    ensure!(scene.curl("/metrics", &[])?.status == 303, "not without a token");
    let token = scene.token("viewer")?;
    ensure!(scene.site.get("/")?.starts_with("real"));
    let scraped = scene.curl("/metrics", &["-H", &token])?;
    let kind = scraped.header("content-type").context("no type")?;
    ensure!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let lines: Vec<&str> = scraped.body.lines().collect();
    let value = |series: &str| -> Result<f64> {
        let line = lines.iter().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {series} in {}", scraped.body))?.parse()?)
    };
    ensure!(value(r#"viaduct_service_up{service="web"}"#)? == 1.0);
    ensure!(value(r#"viaduct_service_connections_total{service="web"}"#)? == 1.0);
    ensure!(value("node_ipvs_connections_total")? == 1.0);
    ensure!(value(r#"viaduct_drops_total{reason="table_full"}"#)? == 0.0);
    let backend = r#"local_address="192.0.2.10",local_port="80",local_mark="","#;
    let backends = lines
        .iter()
        .filter(|line| line.starts_with("node_ipvs_backend_weight{") && line.contains(backend));
    ensure!(backends.count() == 2, "{}", scraped.body);
    ensure!(lines.last() == Some(&"# EOF"), "{}", scraped.body);
    Ok(())
}

//! From words to a [`Command`], checking in the order in which `ipvsadm` checks.

use super::command::{Command, Style, View};
use super::draft::Draft;
use super::message::Failure;
use super::names::Names;
use super::number::decimal;
use super::options::{Class, DEFINITIONS, Verb, Word};
use super::popt::Scanner;
use control::ipvs::{DaemonRole, Request, TimeoutSpec};

/// The longest timeout: 31 days, in seconds.
pub(super) const MAX_TIMEOUT: i64 = 31 * 24 * 60 * 60;

/// Understands a command line. `words` are those after the program's name.
///
/// # Errors
/// What `ipvsadm` would say, with its exit code.
pub fn parse(program: &str, words: &[String], names: &dyn Names) -> Result<Command, Failure> {
    if words.is_empty() {
        let style = Style { numeric: false, exact: false, sorted: true };
        return Ok(Command::List { service: None, view: View::Normal, style });
    }
    let mut scanner = Scanner::new(DEFINITIONS, words);
    let (verb, role) = match scanner.next() {
        Some(Ok((Word::Help, _))) => return Ok(Command::Help),
        Some(Ok((Word::Version, _))) => return Ok(Command::Version),
        Some(Ok((Word::Do(verb), value))) => (verb, daemon_role(verb, value.as_deref())?),
        Some(Ok(_) | Err(_)) | None => return Err(Failure::try_help(program)),
    };
    let mut draft = Draft::default();
    while let Some(found) = scanner.next() {
        match found {
            Ok((word, value)) => draft.take(word, value, scanner.offender(), names)?,
            Err(mistake) => return Err(Failure::option(scanner.offender(), mistake.text())),
        }
    }
    let mut others = scanner.others().iter().copied();
    let timeouts = if verb == Verb::Set { Some(timeouts(&mut others)?) } else { None };
    if let Some(other) = others.next() {
        return Err(Failure::fatal(format!("unexpected argument {other}")));
    }
    draft.settle_flags()?;
    draft.given.check(verb)?;
    command(verb, draft, role, timeouts)
}

/// The role in the value of `--start-daemon` and `--stop-daemon`; other verbs have none.
fn daemon_role(verb: Verb, value: Option<&str>) -> Result<DaemonRole, Failure> {
    let illegal = if verb == Verb::StartDaemon {
        "illegal start-daemon parameter specified"
    } else {
        "illegal start_daemon specified"
    };
    match value {
        None | Some("master") => Ok(DaemonRole::Master),
        Some("backup") => Ok(DaemonRole::Backup),
        Some(_) => Err(Failure::fatal(illegal)),
    }
}

fn timeouts<'a>(others: &mut impl Iterator<Item = &'a str>) -> Result<TimeoutSpec, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) = (others.next(), others.next(), others.next())
    else {
        return Err(Failure::fatal("--set option requires 3 timeout values"));
    };
    Ok(TimeoutSpec { tcp: timeout(tcp, 0)?, tcp_fin: timeout(tcp_fin, 0)?, udp: timeout(udp, 0)? })
}

/// A timeout in seconds.
pub(super) fn timeout(text: &str, least: i64) -> Result<u32, Failure> {
    let seconds = decimal(text, least, MAX_TIMEOUT).and_then(|number| u32::try_from(number).ok());
    seconds.ok_or_else(|| Failure::fatal(format!("invalid timeout value `{text}' specified")))
}

fn command(
    verb: Verb,
    draft: Draft,
    role: DaemonRole,
    timeouts: Option<TimeoutSpec>,
) -> Result<Command, Failure> {
    let request = match verb {
        Verb::List => return list(&draft),
        Verb::Save => return Ok(Command::Save { numeric: draft.given.has(Class::Numeric) }),
        Verb::Restore => return Ok(Command::Restore),
        Verb::AddService | Verb::EditService => {
            let (service, spec) = draft.service_spec()?;
            if verb == Verb::AddService {
                Request::AddService { service, spec }
            } else {
                Request::EditService { service, spec }
            }
        }
        Verb::DeleteService => Request::DeleteService { service: draft.service()? },
        Verb::AddServer | Verb::EditServer => {
            let (service, server, spec) = draft.server_spec()?;
            if verb == Verb::AddServer {
                Request::AddServer { service, server, spec }
            } else {
                Request::EditServer { service, server, spec }
            }
        }
        Verb::DeleteServer => {
            Request::DeleteServer { service: draft.service()?, server: draft.server()? }
        }
        Verb::Flush => Request::Flush,
        Verb::Set => match timeouts {
            Some(timeouts) => Request::SetTimeouts(timeouts),
            None => return Err(Failure::fatal("--set option requires 3 timeout values")),
        },
        Verb::StartDaemon => Request::StartDaemon(draft.daemon_spec(role)),
        Verb::StopDaemon => Request::StopDaemon { role },
        Verb::Zero if draft.given.has(Class::ServiceAddress) => {
            Request::ZeroService { service: draft.service()? }
        }
        Verb::Zero => Request::ZeroAll,
    };
    Ok(Command::Change(request))
}

fn list(draft: &Draft) -> Result<Command, Failure> {
    let has = |class| draft.given.has(class);
    let columns = has(Class::Stats) || has(Class::Rate) || has(Class::Thresholds);
    let other = has(Class::Timeout) || has(Class::Daemon);
    if (columns && (other || has(Class::Connection))) || (other && has(Class::PersistentConn)) {
        return Err(Failure::fatal("options conflicts in the list command"));
    }
    let numeric = has(Class::Numeric);
    if has(Class::Connection) {
        return Ok(Command::ListConnections { numeric, engines: has(Class::PersistentConn) });
    }
    if has(Class::Timeout) {
        return Ok(Command::ListTimeouts);
    }
    if has(Class::Daemon) {
        return Ok(Command::ListDaemons);
    }
    let service = if has(Class::ServiceAddress) { Some(draft.service()?) } else { None };
    let views = [
        (Class::Stats, View::Stats),
        (Class::Rate, View::Rates),
        (Class::Thresholds, View::Thresholds),
        (Class::PersistentConn, View::Persistent),
        (Class::TunInfo, View::Tunnels),
    ];
    let view = views.into_iter().find(|(class, _)| has(*class));
    let view = view.map_or(View::Normal, |(_, view)| view);
    let style = Style { numeric, exact: has(Class::Exact), sorted: !has(Class::Nosort) };
    Ok(Command::List { service, view, style })
}

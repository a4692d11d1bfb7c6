//! The system's log, by its socket, in the form that every syslog daemon takes (RFC 3164).

use tokio::net::UnixDatagram;

use super::text;
use crate::alert::policy::{Item, Message};

const SOCKET: &str = "/dev/log";

pub(super) async fn write(node: &str, facility: &str, message: &Message) -> Result<(), String> {
    write_to(SOCKET, node, facility, message).await
}

async fn write_to(path: &str, node: &str, facility: &str, message: &Message) -> Result<(), String> {
    let facility = number(facility).ok_or_else(|| format!("no syslog facility {facility:?}"))?;
    let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
    socket.connect(path).map_err(|error| format!("{path}: {error}"))?;
    for item in &message.items {
        let line = text::one_line(&text::line(item));
        let entry = format!("<{}>viaduct[{}]: {node}: {line}", priority(facility, item), process());
        socket.send(entry.as_bytes()).await.map_err(|error| format!("{path}: {error}"))?;
    }
    if message.omitted > 0 {
        let priority = facility * 8 + 4;
        let entry = format!("<{priority}>viaduct[{}]: {node}: {} more", process(), message.omitted);
        socket.send(entry.as_bytes()).await.map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// Good news is a notice, bad news a warning.
fn priority(facility: u8, item: &Item) -> u8 {
    facility * 8 + if item.good { 5 } else { 4 }
}

fn process() -> u32 {
    std::process::id()
}

fn number(facility: &str) -> Option<u8> {
    let names = [
        ("kern", 0),
        ("user", 1),
        ("mail", 2),
        ("daemon", 3),
        ("auth", 4),
        ("syslog", 5),
        ("lpr", 6),
        ("news", 7),
        ("uucp", 8),
        ("cron", 9),
        ("authpriv", 10),
        ("ftp", 11),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];
    names.iter().find(|(name, _)| *name == facility).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(good: bool) -> Message {
        let item = Item {
            event: "real_up",
            good,
            repeated: false,
            service: Some("web".into()),
            real: None,
            text: "up\nagain".into(),
            time: 0,
        };
        Message { receiver: "log".into(), items: vec![item], omitted: 0 }
    }

    #[tokio::test]
    async fn each_item_is_one_line_of_the_right_priority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let path = path.to_str().unwrap();
        for (good, priority) in [(true, 16 * 8 + 5), (false, 16 * 8 + 4)] {
            write_to(path, "lb1", "local0", &message(good)).await.unwrap();
            let mut line = [0; 512];
            let n = daemon.recv(&mut line).await.unwrap();
            let wanted = format!("<{priority}>viaduct[{}]: lb1: web: up again", process());
            assert_eq!(String::from_utf8_lossy(&line[..n]), wanted);
        }
    }

    #[tokio::test]
    async fn a_missing_daemon_and_facility_are_errors() {
        let gone = write_to("/nonexistent/log", "lb1", "daemon", &message(true)).await;
        assert!(gone.unwrap_err().starts_with("/nonexistent/log: "));
        let odd = write_to("/nonexistent/log", "lb1", "nonsense", &message(true)).await;
        assert_eq!(odd.unwrap_err(), "no syslog facility \"nonsense\"");
    }
}

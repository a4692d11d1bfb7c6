//! A message in words.

use crate::alert::policy::{Item, Message};

/// "lb1: web: 10.0.0.11:80 is down", "lb1: 3 alerts".
pub(super) fn subject(node: &str, message: &Message) -> String {
    match message.items.as_slice() {
        [one] if message.omitted == 0 => one_line(&format!("{node}: {}", line(one))),
        items => {
            let count = items.len() as u64 + message.omitted;
            one_line(&format!("{node}: {count} alerts"))
        }
    }
}

/// One line for each item, with its time.
pub(super) fn body(node: &str, message: &Message) -> String {
    let mut out = format!("Director {node} reports:\n\n");
    for item in &message.items {
        let when = crate::date::moment(item.time);
        out.push_str(&format!("{when}  {}\n", one_line(&line(item))));
    }
    if message.omitted > 0 {
        out.push_str(&format!("... and {} more\n", message.omitted));
    }
    out
}

/// "web: 10.0.0.11:80 is down: connection refused".
pub(super) fn line(item: &Item) -> String {
    let again = if item.repeated { "still: " } else { "" };
    match &item.service {
        Some(service) => format!("{again}{service}: {}", item.text),
        None => format!("{again}{}", item.text),
    }
}

/// A server's words may stand in the text; they must not begin a new line or a new header.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str, repeated: bool) -> Item {
        Item {
            event: "real_down",
            good: false,
            repeated,
            service: Some("web".into()),
            real: None,
            text: text.into(),
            time: 86_400_000,
        }
    }

    fn message(items: Vec<Item>, omitted: u64) -> Message {
        Message { receiver: "admin".into(), items, omitted }
    }

    #[test]
    fn one_item_is_the_subject_and_many_are_counted() {
        let one = message(vec![item("10.0.0.11:80 is down", true)], 0);
        assert_eq!(subject("lb1", &one), "lb1: still: web: 10.0.0.11:80 is down");
        let many = message(vec![item("a", false), item("b", false)], 5);
        assert_eq!(subject("lb1", &many), "lb1: 7 alerts");
        assert_eq!(
            body("lb1", &many),
            "Director lb1 reports:\n\n1970-01-02T00:00:00Z  web: a\n\
             1970-01-02T00:00:00Z  web: b\n... and 5 more\n"
        );
    }

    #[test]
    fn a_servers_words_cannot_begin_a_header() {
        let evil = message(vec![item("x\r\nBcc: all@example.org", false)], 0);
        assert_eq!(subject("lb1", &evil), "lb1: web: x  Bcc: all@example.org");
        assert_eq!(body("lb1", &evil).lines().count(), 3);
    }
}

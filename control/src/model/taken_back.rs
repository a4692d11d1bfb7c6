//! What a configuration file takes back that was committed by other ways since it was applied last. Pure.

use super::{Change, Difference, Document, differences};

/// Differences that are named in one sentence; of the rest the number is.
const NAMED: usize = 8;

/// Of what turns `running` into `next`, that which goes back to `base`. What the file has neither from there
/// nor from what runs was written on purpose.
pub fn taken_back(base: &Document, running: &Document, next: &Document) -> Vec<Difference> {
    let since = differences(base, running);
    let mut does = differences(running, next);
    does.retain(|does| since.iter().any(|since| goes_back(does, since)));
    does
}

fn goes_back(does: &Difference, since: &Difference) -> bool {
    let mirrored = match does.change {
        Change::Added => since.change == Change::Removed,
        Change::Removed => since.change == Change::Added,
        Change::Changed => since.change == Change::Changed && does.after == since.before,
    };
    mirrored && does.subject == since.subject && does.key == since.key
}

/// Differences in one line.
pub fn named(differences: &[Difference]) -> String {
    let first: Vec<String> = differences.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match differences.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{}{more}", first.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arbitrary;
    use proptest::prelude::*;

    /// Services by name, each with its scheduler and its real servers.
    fn document(services: &[(&str, &str, &[u8])]) -> Document {
        let mut text = String::new();
        for (at, (name, scheduler, reals)) in services.iter().enumerate() {
            text.push_str(&format!(
                "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.{}:80\"\nscheduler = \"{scheduler}\"\n",
                name.len() * 10 + at
            ));
            for real in *reals {
                text.push_str(&format!("[[service.real]]\naddress = \"10.0.0.{real}:80\"\n"));
            }
        }
        Document::parse(&text, "test").expect("is good")
    }

    fn lines(base: &Document, running: &Document, next: &Document) -> Vec<String> {
        let found = taken_back(base, running, next);
        found.iter().map(|one| one.to_string().chars().take(45).collect()).collect()
    }

    #[test]
    fn only_what_others_committed_is_taken_back() {
        let base = document(&[("web", "rr", &[1, 2])]);
        let running = document(&[("web", "wlc", &[2, 3]), ("mail", "rr", &[4])]);
        // The file's own news, on the old state: a server more and another service.
        let next = document(&[("web", "rr", &[1, 2, 9]), ("ftp", "rr", &[5])]);
        assert_eq!(
            lines(&base, &running, &next),
            [
                "- service mail: tcp 192.0.2.41:80 rr nat 1 re",
                "~ service web: scheduler wlc -> rr",
                "- service web, real server 10.0.0.3:80: weigh",
                "+ service web, real server 10.0.0.1:80: weigh",
            ]
        );
        // On the present state it takes nothing back, whatever else it does.
        let next = document(&[("web", "wlc", &[2, 3, 9]), ("mail", "rr", &[4]), ("x", "rr", &[])]);
        assert_eq!(lines(&base, &running, &next), [""; 0]);
        // Nor does a new value for what others changed or added.
        let next = document(&[("web", "sh", &[2, 3]), ("mail", "sh", &[4])]);
        assert_eq!(lines(&base, &running, &next), [""; 0]);
    }

    #[test]
    fn many_differences_are_counted() {
        let base = document(&[]);
        let running = document(&[("web", "rr", &[])]);
        let found = taken_back(&base, &running, &base);
        assert_eq!(named(&found), found[0].to_string());
        let many = vec![found[0].clone(); NAMED + 3];
        assert!(named(&many).ends_with("; and 3 more"), "{}", named(&many));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_file_that_nothing_overtook_takes_nothing_back(
            base in arbitrary::document(),
            next in arbitrary::document(),
        ) {
            prop_assert!(taken_back(&base, &base, &next).is_empty());
            prop_assert!(taken_back(&base, &next, &next).is_empty());
            // Going back takes everything back.
            prop_assert_eq!(taken_back(&base, &next, &base), differences(&next, &base));
        }
    }
}

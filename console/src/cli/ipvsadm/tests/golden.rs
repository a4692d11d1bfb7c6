//! Outputs of the real program, byte for byte.

use super::stand_in::case;
use super::*;

/// The words of a command as the shell's `printf %q` wrote them.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' => words.extend(word.take()),
            '\'' => {
                let quoted: String = characters.by_ref().take_while(|c| *c != '\'').collect();
                word.get_or_insert_default().push_str(&quoted);
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// Runs every command of a file against the state of the same or another name.
fn replay(file: &str, state: &str, names: &MapNames) -> usize {
    let text = case(file);
    let mut count = 0;
    for block in format!("\n{}", text.trim_end()).split("\n$ ipvsadm ").skip(1) {
        let (line, expected) = block.split_once('\n').unwrap();
        let mut director = StandIn::load(state);
        let words = shell_words(line);
        let outcome =
            with_session("ipvsadm", &mut director, names, "", |session| session.ipvsadm(&words));
        assert_eq!(outcome.merged(), expected, "{file}: ipvsadm {line}");
        count += 1;
    }
    count
}

#[test]
fn lists_are_those_of_the_real_program() {
    assert_eq!(replay("listings.txt", "listings", &MapNames::usual()), 21);
}

#[test]
fn usage_errors_are_those_of_the_real_program() {
    assert_eq!(replay("usage-errors.txt", "listings", &MapNames::usual()), 106);
}

#[test]
fn names_of_every_length_are_shown_as_by_the_real_program() {
    assert_eq!(replay("names.txt", "names", &MapNames::parse(&case("names.map"))), 17);
}

#[test]
fn help_is_that_of_the_real_program_under_the_name_by_which_it_was_called() {
    let help = ipvsadm(&mut StandIn::default(), "--help");
    assert_eq!(help.output, case("help.txt"));
    let names = MapNames::default();
    let words = words("-h");
    let other = with_session("/sbin/other", &mut StandIn::default(), &names, "", |session| {
        session.ipvsadm(&words)
    });
    assert!(other.output.contains("\n  /sbin/other -S [-n]\n"));
}

use super::*;
use control::ipvs::{Errno, Reply, Request};
use stand_in::{MapNames, StandIn};

mod golden;
mod refusals;
mod restoring;
mod round_trip;
mod stand_in;

/// What one run of the program did.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Outcome {
    output: String,
    errors: String,
    code: u8,
}

impl Outcome {
    /// As the files of `tests/cases/ipvsadm` show it.
    fn merged(&self) -> String {
        format!("{}{}[rc={}]", self.errors, self.output, self.code)
    }
}

fn with_session(
    program: &str,
    director: &mut dyn Director,
    names: &dyn Names,
    input: &str,
    act: impl FnOnce(&mut Session<'_>) -> u8,
) -> Outcome {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let code = act(&mut Session {
        program,
        director,
        names,
        input: &mut input.as_bytes(),
        output: &mut output,
        errors: &mut errors,
    });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { output: text(output), errors: text(errors), code }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// `ipvsadm LINE` without input.
fn ipvsadm(director: &mut dyn Director, line: &str) -> Outcome {
    let names = MapNames::usual();
    with_session("ipvsadm", director, &names, "", |session| session.ipvsadm(&words(line)))
}

#[test]
fn save_and_restore_scripts_are_the_scripts_of_debian() {
    let mut director = StandIn::load("listings");
    let names = MapNames::usual();
    let mut save = |line: &str| {
        with_session("/sbin/ipvsadm-save", &mut director, &names, "", |session| {
            session.save_script(&words(line))
        })
    };
    let help = save("-x");
    assert_eq!((help.output.as_str(), help.code), ("", 1));
    assert_eq!(
        help.errors,
        "ipvsadm-save: Script to save the IPVS table to stdout.\n   With the -n option, prints out \
         the table in numeric format.\n"
    );
    let (named, numeric) = (save("").output, save("-n").output);
    assert!(named.contains(":https ") && !numeric.contains(":https "));
    assert!(numeric.contains(":443 ") && numeric.starts_with("-A -t "));
    let restore = "# comment\n-A -t 192.0.2.1:80\n-x\n";
    let outcome = with_session("ipvsadm-restore", &mut director, &names, restore, |session| {
        session.restore_script()
    });
    assert_eq!(outcome.code, 255);
    assert!(outcome.errors.starts_with("Try `ipvsadm -h'"));
    let Some(Request::Batch(changes)) = director.asked.last() else { panic!() };
    assert_eq!(changes[0], Request::Flush);
    assert_eq!(changes.len(), 2);
}

#[test]
fn without_a_daemon_commands_fail_and_help_does_not() {
    let nowhere = std::path::Path::new("/nonexistent/viaduct.sock");
    for line in ["-Ln", "", "-C", "-L -c", "-S", "-A -t 192.0.2.1:80"] {
        let outcome = ipvsadm(&mut Client::new(nowhere), line);
        assert_eq!((outcome.output.as_str(), outcome.code), ("", 2), "{line}");
        assert!(outcome.errors.starts_with("Can't initialize ipvs: "), "{line}");
        assert!(outcome.errors.contains("/nonexistent/viaduct.sock: No such file"), "{line}");
    }
    for line in ["-h", "-v"] {
        assert_eq!(ipvsadm(&mut Client::new(nowhere), line).code, 0);
    }
}

#[test]
fn connections_are_listed_page_by_page_under_one_title() {
    let mut director = StandIn::load("listings");
    director.page = 3;
    let paged = ipvsadm(&mut director, "-Lnc");
    assert!(director.asked.len() > 2);
    assert_eq!(paged, ipvsadm(&mut StandIn::load("listings"), "-Lnc"));
}

#[test]
fn full_nat_is_shown_and_its_loss_is_said() {
    let mut director = StandIn::load("listings");
    director.services[0].servers[0].method = control::model::Method::FullNat;
    assert!(ipvsadm(&mut director, "-Ln").output.contains("FullNat 1"));
    let saved = ipvsadm(&mut director, "-Sn");
    assert_eq!(saved.errors, "10.0.0.2:80: full NAT has no option in ipvsadm, saved as -m\n");
    assert_eq!(saved.code, 0);
}

#[test]
fn a_refusal_in_words_is_passed_on() {
    let answer = Some(Reply::Refused("the disk is full".into()));
    let mut director = StandIn { answer, ..StandIn::default() };
    let outcome = ipvsadm(&mut director, "-A -t 192.0.2.1:80");
    assert_eq!((outcome.errors.as_str(), outcome.code), ("the disk is full\n", 255));
    director.answer = Some(Reply::Failed(Errno::Eperm));
    let outcome = ipvsadm(&mut director, "-Ln");
    assert_eq!(outcome.errors, "Permission denied (you must be root)\n");
    assert_eq!(outcome.code, 1);
}

#[test]
fn no_command_line_makes_the_parser_panic() {
    use proptest::prelude::*;
    let word = prop_oneof![
        "-[A-Za-z0-9=]{0,4}",
        "--[a-z=-]{0,12}",
        r"\PC{0,12}",
        r"[\[\]:.0-9a-f]{0,20}",
    ];
    proptest!(|(words in prop::collection::vec(word, 0..8))| {
        let _ = parse("ipvsadm", &words, &MapNames::default());
    });
}

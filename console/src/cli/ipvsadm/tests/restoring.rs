//! `-R`, line by line. What each case expects was seen with the real program.

use super::stand_in::case;
use super::*;

struct Restored {
    outcome: Outcome,
    /// Every change that reached the director, in order.
    changes: Vec<Request>,
    batches: usize,
}

fn restore(text: &str) -> Restored {
    restore_into(&mut StandIn::default(), text)
}

fn restore_into(director: &mut StandIn, text: &str) -> Restored {
    let names = MapNames::usual();
    let outcome =
        with_session("ipvsadm", director, &names, text, |session| session.ipvsadm(&words("-R")));
    let batches: Vec<_> = director
        .asked
        .iter()
        .filter_map(|request| match request {
            Request::Batch(requests) if requests[0].edits() || requests[0] == Request::ZeroAll => {
                Some(requests.clone())
            }
            _ => None,
        })
        .collect();
    Restored { outcome, batches: batches.len(), changes: batches.concat() }
}

fn check(text: &str, errors: &str, code: u8, changes: &[Request]) {
    let restored = restore(text);
    assert_eq!(restored.outcome.errors, errors, "{text:?}");
    assert_eq!(restored.outcome.code, code, "{text:?}");
    assert_eq!(restored.changes, changes, "{text:?}");
}

const TRY: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n";
const FLUSH: Request = Request::Flush;
const ZERO: Request = Request::ZeroAll;

#[test]
fn lines_are_carried_out_in_order() {
    check("", "", 0, &[]);
    check("\n \t\n", "", 0, &[]);
    check("-C\n-Z", "", 0, &[FLUSH, ZERO]);
    check("ipvsadm -C\r\n  ipvsadm\t-Z\n", "", 0, &[FLUSH, ZERO]);
    check("-C\r-Z\n", "", 0, &[FLUSH, ZERO]);
    check("ipvsadm\n-C\n \n", "", 0, &[FLUSH]);
}

#[test]
fn what_popt_does_not_understand_costs_one_line() {
    check("-C --bogus\n-Z\n", "--bogus: unknown option\n", 0, &[ZERO]);
    check("-C\n-Z --bogus\n", "--bogus: unknown option\n", 255, &[FLUSH]);
    check("-A -t\n-Z\n", "-t: missing argument\n", 0, &[ZERO]);
    check("-A -f 5 -s ipvsadm\n-Z\n", "-s: missing argument\n", 0, &[ZERO]);
}

#[test]
fn every_other_mistake_ends_the_restore_after_the_lines_before() {
    check("-C\nfoo\n-Z", TRY, 255, &[FLUSH]);
    check("-C\n# x\n-Z", TRY, 255, &[FLUSH]);
    check("-C\n-R\n-Z", TRY, 255, &[FLUSH]);
    check("-C\n--start-daemon\n-Z", TRY, 255, &[FLUSH]);
    check("-C\n-Z # x\n-Z", "unexpected argument #\n", 2, &[FLUSH]);
    check("-C\n/sbin/ipvsadm -Z\n", "unexpected argument /sbin/ipvsadm\n", 2, &[FLUSH]);
    let illegal = "illegal virtual server address[:port] specified\n";
    check("-C\n-D -t x\n-Z", illegal, 2, &[FLUSH]);
    check("-C\n-A -t '192.0.2.1:80'\n-Z", illegal, 2, &[FLUSH]);
}

#[test]
fn refusals_do_not_stop_it_and_the_last_line_decides_the_code() {
    let refuse = |text| {
        let answer = Some(Reply::Failed(Errno::Esrch));
        restore_into(&mut StandIn { answer, ..StandIn::default() }, text).outcome
    };
    let outcome = refuse("-C\n-D -f 1\n-C --bogus\n--set 1 2 3\n");
    assert_eq!(
        outcome.errors,
        "No such process\nNo such service\n--bogus: unknown option\nNo such process\n"
    );
    assert_eq!(outcome.code, 255);
}

#[test]
fn lists_show_what_the_lines_before_did() {
    let restored = restore("-C\n-Ln\n-Z\n-C\n-S\n");
    assert_eq!((restored.changes.len(), restored.batches), (3, 2));
    assert!(restored.outcome.output.starts_with("IP Virtual Server version"));
    let unknown = restore("-C\n-L -f 7\n-Z\n");
    assert_eq!((unknown.outcome.errors.as_str(), unknown.outcome.code), ("No such service\n", 1));
    assert_eq!(unknown.changes, [FLUSH]);
    let help = restore("-C\n-v\n-Z\n");
    assert_eq!((help.changes.len(), help.outcome.code), (1, 0));
}

#[test]
fn a_thousand_lines_are_one_batch() {
    let line = |number| format!("-A -t 192.0.2.1:{number} -s rr\n");
    let text: String = (1..=1000).map(line).collect();
    let restored = restore(&text);
    assert_eq!((restored.batches, restored.changes.len()), (1, 1000));
}

#[test]
fn rules_from_the_wild_are_understood() {
    for (name, changes) in [
        ("bigbrother-fwmark-tunnel", 9),
        ("dns-domain-names", 4),
        ("keepalived-nat-save", 3),
        ("restore-heredoc-port0", 3),
        ("tcp-udp-mixed", 6),
        ("zstack-nat-udp", 6),
    ] {
        let restored = restore(&case(&format!("rules/{name}.rules")));
        assert_eq!(restored.outcome.errors, "", "{name}");
        assert_eq!(restored.changes.len(), changes, "{name}");
    }
    // These need names that are not everywhere, or the restore script.
    for (name, changes) in
        [("mypjb-names-and-comment", 0), ("nat-hostname", 0), ("service-names-radan-http", 1)]
    {
        let restored = restore(&case(&format!("rules/{name}.rules")));
        assert_ne!(restored.outcome.code, 0, "{name}");
        assert_eq!(restored.changes.len(), changes, "{name}");
    }
    let names = MapNames::parse("172.16.0.1=s2\n80/tcp=http\n8088/tcp=radan-http\n443/tcp=https\n");
    for name in ["mypjb-names-and-comment", "nat-hostname", "service-names-radan-http"] {
        let mut director = StandIn::default();
        let rules = case(&format!("rules/{name}.rules"));
        let outcome = with_session("ipvsadm-restore", &mut director, &names, &rules, |session| {
            session.restore_script()
        });
        assert_eq!((outcome.errors.as_str(), outcome.code), ("", 0), "{name}");
    }
}

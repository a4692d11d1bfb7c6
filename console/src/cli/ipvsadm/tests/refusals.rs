//! What is said for each error number of the kernel.

use super::stand_in::case;
use super::*;

#[test]
fn every_error_number_has_the_real_programs_text() {
    let mut count = 0;
    for line in case("errno.txt").lines() {
        let (number, rest) = line.strip_prefix("errno=").unwrap().split_once(' ').unwrap();
        let (command, expected) = rest.split_once(" => ").unwrap();
        let errno = Errno::ALL.into_iter().find(|errno| errno.number().to_string() == number);
        let errno = errno.unwrap_or_else(|| panic!("no error number {number}"));
        let mut director = StandIn { answer: Some(Reply::Failed(errno)), ..StandIn::default() };
        let outcome = ipvsadm(&mut director, command);
        let shown = format!("{} rc={}", outcome.errors.trim_end(), outcome.code);
        assert_eq!(shown, expected, "{line}");
        count += 1;
    }
    assert_eq!(count, 165);
}

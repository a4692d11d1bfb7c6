//! Single stories of two directors.

use super::*;

#[test]
fn a_director_with_nothing_takes_over_what_the_other_one_has() {
    let pair = Pair::joined([0, 5]);
    assert_eq!(pair.values(), [5, 5]);
}

#[test]
fn two_directors_that_were_set_up_apart_are_in_conflict() {
    let pair = Pair::joined([1, 5]);
    assert_eq!(pair.values(), [1, 5]);
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
    let shown = pair.nodes[0].revisions.content().expect("to be shown");
    assert_eq!(*shown, SharedPart::of(&pair.nodes[1].document));
}

#[test]
fn of_two_commits_at_once_neither_wins() {
    let mut pair = Pair::joined([1, 1]);
    pair.step(&Step::Commit(0, 2));
    pair.step(&Step::Commit(1, 3));
    pair.settle();
    assert_eq!(pair.values(), [2, 3]);
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
}

#[test]
fn going_back_to_what_was_is_a_change_like_any_other() {
    let mut pair = Pair::joined([1, 1]);
    pair.step(&Step::Commit(0, 2));
    pair.settle();
    pair.step(&Step::Cut);
    pair.step(&Step::Commit(0, 1));
    pair.step(&Step::Commit(1, 3));
    pair.step(&Step::Join);
    pair.settle();
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
}

#[test]
fn what_is_declined_is_told_once_and_tried_again_when_the_own_part_changes() {
    let mut pair = Pair::joined([1, 1]);
    pair.step(&Step::Commit(0, 2));
    while pair.nodes[1].taking.is_none() {
        pair.step(&Step::Deliver(1));
        pair.step(&Step::Deliver(0));
    }
    pair.step(&Step::Finish(1, false));
    pair.settle();
    assert_eq!(pair.values(), [2, 1]);
    assert_eq!(pair.nodes[1].revisions.why_declined(), Some("no"));
    assert_eq!(pair.nodes[0].revisions.why_declined_by_peer(), Some("no"));
    assert!(pair.nodes[1].revisions.is_settled(), "nothing is under way");
    let mut out = Vec::new();
    let digest = SharedPart::of(&pair.nodes[1].document).digest();
    pair.nodes[1].revisions.own_part_changed(digest, true, &mut out);
    pair.carry_out(1, false, out);
    pair.settle();
    assert_eq!(pair.values(), [2, 2]);
    assert_eq!(pair.nodes[0].revisions.why_declined_by_peer(), None, "it is no longer so");
}

#[test]
fn choices_need_a_conflict() {
    let mut node = Node::new(1, 1);
    assert_eq!(node.revisions.keep_mine(), Err(NoChoice::NoConflict));
    assert_eq!(node.revisions.keep_theirs(&mut Vec::new()), Err(NoChoice::NoConflict));
}

/// Two that were set up apart, in conflict.
fn in_conflict() -> Pair {
    let pair = Pair::joined([1, 5]);
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
    pair
}

#[test]
fn a_choice_holds_when_it_is_stored_and_can_be_made_again_when_it_is_not() {
    let mut pair = in_conflict();
    pair.step(&Step::Mine(0));
    assert_eq!(pair.nodes[0].revisions.keep_mine(), Err(NoChoice::NoConflict), "under way");
    pair.step(&Step::Finish(0, false));
    pair.settle();
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
    pair.step(&Step::Mine(0));
    pair.settle();
    assert_eq!(pair.values(), [1, 1]);
}

#[test]
fn what_the_peer_commits_while_a_choice_is_stored_is_not_chosen_against() {
    let mut pair = in_conflict();
    pair.step(&Step::Mine(0));
    pair.step(&Step::Commit(1, 3));
    while !pair.wires[0].is_empty() {
        pair.step(&Step::Deliver(0));
    }
    pair.step(&Step::Finish(0, true));
    pair.settle();
    assert_eq!(pair.values(), [1, 3]);
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
}

#[test]
fn a_choice_survives_the_link() {
    let mut pair = in_conflict();
    pair.step(&Step::Mine(0));
    pair.step(&Step::Cut);
    pair.step(&Step::Finish(0, true));
    pair.step(&Step::Join);
    pair.settle();
    assert_eq!(pair.values(), [1, 1]);
}

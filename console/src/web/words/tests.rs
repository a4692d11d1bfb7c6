use super::*;
use fluent_bundle::FluentResource;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every message with the variables that it uses, found by the syntax `{ $name`.
fn messages(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((id, _)) = line.split_once(" =")
            && line.starts_with(|c: char| c.is_ascii_lowercase())
        {
            current = id.to_owned();
            assert!(all.insert(current.clone(), BTreeSet::new()).is_none(), "{id} is there twice");
        }
        for piece in line.split('$').skip(1) {
            let name = piece.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
            if let (Some(name), Some(variables)) = (name, all.get_mut(&current)) {
                variables.insert(name.to_owned());
            }
        }
    }
    all
}

#[test]
fn both_languages_are_well_formed_and_have_the_same_messages_and_variables() {
    for text in [ENGLISH, CHINESE] {
        let parsed = FluentResource::try_new(text.to_owned());
        assert!(parsed.is_ok(), "{:#?}", parsed.err().map(|(_, errors)| errors));
    }
    let (english, chinese) = (messages(ENGLISH), messages(CHINESE));
    let names = |all: &BTreeMap<String, _>| all.keys().cloned().collect::<BTreeSet<_>>();
    let (ours, theirs) = (names(&english), names(&chinese));
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new(), "no Chinese");
    assert_eq!(theirs.difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new(), "no English");
    for (id, variables) in &english {
        assert_eq!(Some(variables), chinese.get(id), "{id}");
    }
}

fn files(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, found);
        } else if !path.ends_with("words/tests.rs") {
            found.push(fs::read_to_string(path).expect("text"));
        }
    }
}

#[test]
fn every_message_that_a_page_says_exists_and_every_message_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    files(&root.join("src/web"), &mut texts);
    files(&root.join("templates"), &mut texts);
    let texts: Vec<String> =
        texts.into_iter().filter(|text| text != ENGLISH && text != CHINESE).collect();
    let known = messages(ENGLISH);
    let mut said = BTreeSet::new();
    for text in &texts {
        for call in ["say(\"", "count(\"", "say_with(\""] {
            for piece in text.split(call).skip(1) {
                let id = piece.split('"').next().unwrap_or_default();
                assert!(known.contains_key(id), "no message {id:?}");
            }
        }
        // Also ids that are chosen by data: any literal that is one.
        said.extend(text.split('"').filter(|word| known.contains_key(*word)).map(str::to_owned));
    }
    let unsaid: Vec<_> = known.keys().filter(|id| !said.contains(*id)).collect();
    assert!(unsaid.is_empty(), "nothing says {unsaid:?}");
}

#[test]
fn languages_are_chosen_by_tag_and_header() {
    assert_eq!(Lang::of_header("zh-CN,zh;q=0.9,en;q=0.8"), Lang::Zh);
    assert_eq!(Lang::of_header("fr, en-GB;q=0.7, zh"), Lang::En);
    assert_eq!(Lang::of_header(""), Lang::En);
    assert_eq!(Lang::of_tag("zh_TW"), Some(Lang::Zh));
    assert_eq!(Lang::of_tag("de"), None);
}

#[test]
fn numbers_have_three_digits_and_a_unit() {
    let cases = [
        (0.0, "0"),
        (0.04, "0"),
        (0.3, "0.3"),
        (3.16, "3.2"),
        (17.0, "17"),
        (999.4, "999"),
        (999.6, "1.00k"),
        (12_318.0, "12.3k"),
        (1_841_206.0, "1.84M"),
        (412_377_000.0, "412M"),
        (9.584e9, "9.58G"),
    ];
    for (number, text) in cases {
        assert_eq!(short(number), text, "{number}");
    }
    assert_eq!(exact(1_841_206), "1,841,206");
    assert_eq!(exact(999), "999");
}

#[test]
fn spans_name_their_two_largest_units() {
    let say = |seconds, lang| duration(std::time::Duration::from_secs(seconds), lang);
    assert_eq!(say(9840, Lang::En), "2 h 44 min");
    assert_eq!(say(372, Lang::En), "6 min 12 s");
    assert_eq!(say(3600, Lang::En), "1 h");
    assert_eq!(say(0, Lang::En), "0 s");
    assert_eq!(say(9840, Lang::Zh), "2 小时 44 分");
}

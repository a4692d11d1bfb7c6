//! Command lines in popt's way.
//!
//! Short options bundle (`-Ln`), values are attached (`-p300`, `-p=300`, `--persistent=300`) or the
//! next word, a value may be optional, other words are collected, and `--` ends the options.

/// One option.
pub(super) struct Definition<T> {
    /// Name after `--`.
    pub long: &'static str,
    /// Letter after `-`.
    pub short: Option<char>,
    /// Whether it has a value.
    pub value: Value,
    /// What it stands for.
    pub id: T,
}

/// Whether an option has a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    None,
    Required,
    /// Taken from the next word unless that begins with `-`.
    Optional,
}

/// What is wrong with an option. The offender is [`Scanner::offender`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mistake {
    UnknownOption,
    MissingArgument,
    UnwantedArgument,
}

impl Mistake {
    /// popt's words for it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::UnknownOption => "unknown option",
            Self::MissingArgument => "missing argument",
            Self::UnwantedArgument => "option does not take an argument",
        }
    }
}

/// An option as it was found, with its value.
pub(super) type Found<T> = (T, Option<String>);

/// Walks over the words of a command line.
pub(super) struct Scanner<'a, T> {
    definitions: &'a [Definition<T>],
    words: &'a [String],
    next: usize,
    /// The rest of a bundle of short options.
    bundle: Option<&'a str>,
    only_words: bool,
    others: Vec<&'a str>,
}

impl<'a, T: Copy> Scanner<'a, T> {
    pub fn new(definitions: &'a [Definition<T>], words: &'a [String]) -> Self {
        Self { definitions, words, next: 0, bundle: None, only_words: false, others: Vec::new() }
    }

    /// The next option; `None` when there is no more. Words that are no options are put aside.
    ///
    /// # Errors
    /// The option is unknown or has no value where it needs one, or one where it takes none.
    pub fn next(&mut self) -> Option<Result<Found<T>, Mistake>> {
        loop {
            if let Some(bundle) = self.bundle.take() {
                return Some(self.short(bundle));
            }
            let word: &'a str = self.words.get(self.next)?;
            self.next += 1;
            if self.only_words || !word.starts_with('-') || word == "-" {
                self.others.push(word);
            } else if word == "--" {
                self.only_words = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return Some(self.long(long));
            } else {
                self.bundle = Some(&word[1..]);
            }
        }
    }

    /// The word that was looked at last: what popt blames for a mistake.
    pub fn offender(&self) -> &'a str {
        self.next.checked_sub(1).and_then(|last| self.words.get(last)).map_or("", String::as_str)
    }

    /// The words that were put aside so far.
    pub fn others(&self) -> &[&'a str] {
        &self.others
    }

    fn long(&mut self, text: &'a str) -> Result<Found<T>, Mistake> {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let definition = self.definitions.iter().find(|definition| definition.long == name);
        self.with_value(definition.ok_or(Mistake::UnknownOption)?, attached)
    }

    fn short(&mut self, bundle: &'a str) -> Result<Found<T>, Mistake> {
        let mut letters = bundle.chars();
        let letter = letters.next().ok_or(Mistake::UnknownOption)?;
        let rest = letters.as_str();
        let definition =
            self.definitions.iter().find(|definition| definition.short == Some(letter));
        let definition = definition.ok_or(Mistake::UnknownOption)?;
        if rest.is_empty() {
            return self.with_value(definition, None);
        }
        if definition.value == Value::None && !rest.starts_with('=') {
            self.bundle = Some(rest);
            return Ok((definition.id, None));
        }
        self.with_value(definition, Some(rest.strip_prefix('=').unwrap_or(rest)))
    }

    fn with_value(
        &mut self,
        definition: &Definition<T>,
        attached: Option<&str>,
    ) -> Result<Found<T>, Mistake> {
        let value = match (definition.value, attached) {
            (Value::None, Some(_)) => return Err(Mistake::UnwantedArgument),
            (Value::None, None) => None,
            (Value::Required | Value::Optional, Some(value)) => Some(value.to_owned()),
            (Value::Required, None) => {
                let value = self.words.get(self.next).ok_or(Mistake::MissingArgument)?;
                self.next += 1;
                Some(value.clone())
            }
            (Value::Optional, None) => {
                let value = self.words.get(self.next).filter(|word| !word.starts_with('-'));
                self.next += usize::from(value.is_some());
                value.cloned()
            }
        };
        Ok((definition.id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITIONS: &[Definition<char>] = &[
        Definition { long: "list", short: Some('L'), value: Value::None, id: 'L' },
        Definition { long: "numeric", short: Some('n'), value: Value::None, id: 'n' },
        Definition { long: "tcp-service", short: Some('t'), value: Value::Required, id: 't' },
        Definition { long: "persistent", short: Some('p'), value: Value::Optional, id: 'p' },
        Definition { long: "pe", short: None, value: Value::Required, id: 'e' },
    ];

    /// Options as `L`, `t=VALUE`; then the mistake with its offender; then the other words.
    fn scan(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut scanner = Scanner::new(DEFINITIONS, &words);
        let mut shown = Vec::new();
        while let Some(found) = scanner.next() {
            match found {
                Ok((id, None)) => shown.push(id.to_string()),
                Ok((id, Some(value))) => shown.push(format!("{id}={value}")),
                Err(mistake) => {
                    shown.push(format!("{}: {}", scanner.offender(), mistake.text()));
                    break;
                }
            }
        }
        shown.extend(scanner.others().iter().map(|word| format!("<{word}>")));
        shown.join(" ")
    }

    #[test]
    fn values_are_attached_or_the_next_word() {
        for line in ["-t a", "-ta", "-t=a", "--tcp-service a", "--tcp-service=a"] {
            assert_eq!(scan(line), "t=a", "{line}");
        }
        assert_eq!(scan("-t -L"), "t=-L");
        assert_eq!(scan("--tcp-service="), "t=");
        assert_eq!(scan("-t"), "-t: missing argument");
        assert_eq!(scan("-Lt"), "L -Lt: missing argument");
        assert_eq!(scan("-L=5"), "-L=5: option does not take an argument");
        assert_eq!(scan("--list=5"), "--list=5: option does not take an argument");
    }

    #[test]
    fn an_optional_value_does_not_begin_with_a_dash() {
        assert_eq!(scan("-p 5 -n"), "p=5 n");
        assert_eq!(scan("-p -n"), "p n");
        assert_eq!(scan("-p"), "p");
        assert_eq!(scan("-pn"), "p=n");
        assert_eq!(scan("-p="), "p=");
        assert_eq!(scan("--persistent=-5"), "p=-5");
    }

    #[test]
    fn short_options_bundle_and_the_whole_bundle_is_blamed() {
        assert_eq!(scan("-Lnt a"), "L n t=a");
        assert_eq!(scan("-Lnta"), "L n t=a");
        assert_eq!(scan("-Lx"), "L -Lx: unknown option");
        assert_eq!(scan("-list"), "-list: unknown option");
        assert_eq!(scan("---list"), "---list: unknown option");
        assert_eq!(scan("--lis"), "--lis: unknown option");
    }

    #[test]
    fn other_words_are_kept_in_order() {
        assert_eq!(scan("a -L - b"), "L <a> <-> <b>");
        assert_eq!(scan("-L -- -n -- c"), "L <-n> <--> <c>");
    }
}

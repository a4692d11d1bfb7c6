//! What the console says, in each language: Fluent files beside this one. A test compares their messages.

mod format;

pub use format::{Moment, Number, duration, exact, moment, short};

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use std::sync::OnceLock;
use unic_langid::langid;

/// A language of the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lang {
    /// English.
    En,
    /// Simplified Chinese.
    Zh,
}

const ENGLISH: &str = include_str!("en.ftl");
const CHINESE: &str = include_str!("zh.ftl");

type Bundle = FluentBundle<FluentResource>;

impl Lang {
    /// Its tag for `lang` attributes (BCP 47).
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-CN",
        }
    }

    /// Its name in itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Zh => "中文",
        }
    }

    /// The language of a tag, if the console speaks it.
    pub fn of_tag(tag: &str) -> Option<Self> {
        match tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "en" => Some(Self::En),
            "zh" => Some(Self::Zh),
            _ => None,
        }
    }

    /// The first language of an `Accept-Language` header that the console speaks. Quality values are
    /// not looked at: browsers list languages in their order.
    pub fn of_header(header: &str) -> Self {
        let tags = header.split(',').filter_map(|part| part.split(';').next());
        tags.filter_map(|tag| Self::of_tag(tag.trim())).next().unwrap_or(Self::En)
    }

    fn bundle(self) -> &'static Bundle {
        static BUNDLES: OnceLock<[Bundle; 2]> = OnceLock::new();
        let [english, chinese] =
            BUNDLES.get_or_init(|| [(Self::En, ENGLISH), (Self::Zh, CHINESE)].map(load));
        match self {
            Self::En => english,
            Self::Zh => chinese,
        }
    }

    /// The message with this id.
    pub fn say(self, id: &str) -> String {
        self.say_with(id, &[])
    }

    /// The message with this id, which says a number.
    pub fn count(self, id: &str, count: impl Into<Number>) -> String {
        let Number(count) = count.into();
        self.say_with(id, &[("count", &count.to_string())])
    }

    /// The message with this id and these arguments. One that is a whole number chooses plurals.
    pub fn say_with(self, id: &str, arguments: &[(&str, &str)]) -> String {
        let mut fluent = FluentArgs::new();
        for (name, value) in arguments {
            let value = match value.parse::<u64>() {
                Ok(_) => FluentValue::try_number(value),
                Err(_) => FluentValue::from((*value).to_owned()),
            };
            fluent.set((*name).to_owned(), value);
        }
        let bundle = self.bundle();
        let pattern = bundle.get_message(id).and_then(|message| message.value());
        // The tests find messages that are missing; a page is still better with an id than without.
        let Some(pattern) = pattern else { return id.to_owned() };
        bundle.format_pattern(pattern, Some(&fluent), &mut Vec::new()).into_owned()
    }
}

fn load((lang, text): (Lang, &str)) -> Bundle {
    let tag = match lang {
        Lang::En => langid!("en"),
        Lang::Zh => langid!("zh-CN"),
    };
    let mut bundle = Bundle::new_concurrent(vec![tag]);
    // Isolating marks would be shown as boxes by some terminals, and names here are left to right.
    bundle.set_use_isolating(false);
    let resource =
        FluentResource::try_new(text.to_owned()).unwrap_or_else(|(resource, _)| resource);
    bundle.add_resource_overriding(resource);
    bundle
}

#[cfg(test)]
mod tests;

//! Query strings and form bodies, where a parameter that occurs twice is an error and not a choice (RFC 6749 3.1).

use url::form_urlencoded;

/// The decoded parameters of a query or form, in order, repetitions kept.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// How often a parameter occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// Not at all.
    Absent,
    /// Once, with this value.
    Once(&'a str),
    /// More than once: refuse.
    Repeated,
}

impl<'a> Parameter<'a> {
    /// The value when it occurs exactly once.
    #[must_use]
    pub const fn value(self) -> Option<&'a str> {
        match self {
            Self::Once(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }
}

impl Query {
    /// Reads `application/x-www-form-urlencoded` text; invalid UTF-8 becomes U+FFFD, which matches no name of ours.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// How often `name` occurs.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Parameter<'_> {
        let mut values = self.0.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (None, _) => Parameter::Absent,
            (Some((_, value)), None) => Parameter::Once(value),
            (Some(_), Some(_)) => Parameter::Repeated,
        }
    }

    /// All parameters in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether `name` occurs at all.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }
}

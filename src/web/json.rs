//! A strict JSON reader for what strangers send: one object, UTF-8, no member twice, bounded depth.
//!
//! RFC 8259 4 leaves duplicate members to the reader, and two readers that choose differently are an attack (a `iss`
//! that one checks and the other uses). So there is one reader, and it refuses them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep objects and lists may nest.
const MAX_DEPTH: u8 = 32;

/// Why a text is not the JSON object that was asked for. Carries no part of the text.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Valid JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// Not JSON, a member twice, too deep, or something after the end.
    #[error("not acceptable JSON: {0}")]
    Syntax(&'static str),
}

/// Reads exactly one JSON object.
///
/// # Errors
/// [`JsonError`] when `text` is anything else, has a member twice at any depth, or nests deeper than 32.
pub fn strict_object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: MAX_DEPTH }
        .deserialize(&mut reader)
        .map_err(|error| JsonError::Syntax(kind(&error)))?;
    reader.end().map_err(|_| JsonError::Syntax("something follows the object"))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(JsonError::NotAnObject),
    }
}

/// serde's own message may quote the text, which may hold a token; so only its kind goes on.
fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Data => "a member occurs twice, or it nests too deeply",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "syntax error",
    }
}

/// One value at most `depth` levels deep.
#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    /// The rule for what stands one level deeper.
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nests too deeply"))?;
        Ok(Self { depth })
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::strict_object;

    #[test]
    fn og_11_refuses_a_member_that_occurs_twice() {
        assert!(strict_object(br#"{"iss":"a","iss":"b"}"#).is_err());
        assert!(strict_object(br#"{"x":{"iss":"a","iss":"a"}}"#).is_err());
        assert!(strict_object(br#"{"x":[{"y":1,"y":1}]}"#).is_err());
    }

    #[test]
    fn og_11_refuses_depth_and_leftovers() {
        let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(31), "]".repeat(31));
        assert!(strict_object(deep.as_bytes()).is_ok());
        let deeper = format!(r#"{{"x":{}1{}}}"#, "[".repeat(32), "]".repeat(32));
        assert!(strict_object(deeper.as_bytes()).is_err());
        assert!(strict_object(br#"{"a":1} {"a":1}"#).is_err());
        assert!(strict_object(b"\xef\xbb\xbf{}").is_err());
        assert!(strict_object(b"[1]").is_err());
        assert!(strict_object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn keeps_every_kind_of_value() {
        let text = r#"{"b":true,"f":1.5,"l":[1,{"k":"v"}],"n":1,"s":"x","u":null}"#;
        let object = strict_object(text.as_bytes()).unwrap();
        assert_eq!(serde_json::Value::Object(object).to_string(), text);
    }
}

//! `config/vestibule.schema.json`: the schema as editors read it.

use serde_json::{Map, Value, json};

use super::keys::SECRET;
use super::schema::{Key, Keys, Kind, Need, ROOT};

/// Names that an operator chooses, as [`Name::parse`](super::Name::parse) has them.
const NAME: &str = "^[a-z0-9][a-z0-9_-]{0,62}$";

/// The JSON schema, in the draft that TOML editors understand.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = table(ROOT, "");
    let head = [
        ("$schema", "http://json-schema.org/draft-07/schema#"),
        ("title", "Vestibule"),
        ("description", "The config of Vestibule, an OpenID Connect sidecar for Caddy."),
    ];
    if let Value::Object(object) = &mut schema {
        object.extend(head.map(|(key, text)| (key.to_owned(), json!(text))));
    }
    format!("{schema:#}\n")
}

fn table(keys: Keys, place: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in keys.iter().copied().flatten() {
        let place = if place.is_empty() { key.name.to_owned() } else { format!("{place}.{}", key.name) };
        if matches!(key.need, Need::Required(_)) {
            required.push(key.name);
        }
        properties.insert(key.name.to_owned(), property(key, &place));
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let (Value::Object(object), false) = (&mut schema, required.is_empty()) {
        object.insert("required".to_owned(), json!(required));
    }
    schema
}

fn property(key: &Key, place: &str) -> Value {
    let mut schema = kind(&key.kind, place);
    if let Value::Object(object) = &mut schema {
        object.insert("description".to_owned(), json!(key.doc));
        if let Need::Default(text) = key.need {
            let value = toml::from_str::<Map<String, Value>>(&format!("value = {text}")).ok();
            object.extend(value.and_then(|mut table| table.remove("value")).map(|value| ("default".to_owned(), value)));
        }
    }
    schema
}

fn kind(of: &Kind, place: &str) -> Value {
    match of {
        Kind::Text | Kind::Duration => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Count => json!({ "type": "integer", "minimum": 1 }),
        Kind::Size => json!({ "type": ["integer", "string"] }),
        Kind::Choice(values) => json!({ "type": "string", "enum": values }),
        Kind::Secret => {
            let mut places = table(&[SECRET], place);
            if let Value::Object(object) = &mut places {
                object.insert("minProperties".to_owned(), json!(1));
                object.insert("maxProperties".to_owned(), json!(1));
            }
            json!({ "anyOf": [places, { "type": "string" }] })
        }
        Kind::List(inner) => json!({ "type": "array", "items": kind(inner, place) }),
        Kind::Map(inner @ Kind::Table(_)) => {
            let names = if place.ends_with("paths") { "^/([^/]+/)*$" } else { NAME };
            let inner = kind(inner, &format!("{place}.*"));
            json!({ "type": "object", "propertyNames": { "pattern": names }, "additionalProperties": inner })
        }
        Kind::Map(inner) => json!({ "type": "object", "additionalProperties": kind(inner, &format!("{place}.*")) }),
        Kind::Table(keys) => table(keys, place),
        Kind::Either(kinds) => {
            let offered: Vec<Value> = kinds.iter().map(|inner| kind(inner, place)).collect();
            json!({ "anyOf": offered })
        }
    }
}

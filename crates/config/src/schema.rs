//! The table as a JSON schema, for editors that complete and check, and for whoever reads configs elsewhere.
//!
//! It says what one would write: where a value is also taken in another type (a number in quotes), the schema has the
//! one type. Rules across keys are not in it.

use serde_json::{Map, Value as Json, json};

use crate::{
    shape::{Default, EXACT, Key, Object, Rule, Standing, Takes},
    table,
};

/// The schema of a whole config: JSON Schema, draft 2020-12.
pub fn schema() -> Json {
    let mut schema = object(&table::CONFIG);
    schema.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".to_owned(), "Eagleray config".into());
    schema.into()
}

fn object(object: &Object) -> Map<String, Json> {
    let mut properties: Map<String, Json> = object
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    for (old, today) in object.renamed {
        let property =
            json!({"deprecated": true, "description": format!("The old name of `{today}`.")});
        properties.insert((*old).to_owned(), property);
    }
    let required: Vec<_> = object
        .keys
        .iter()
        .filter(|key| key.default == Default::Required)
        .map(|key| key.name)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("description".to_owned(), object.help.into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    if object.own_keys {
        schema.insert("patternProperties".to_owned(), json!({"^x-": true}));
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

fn property(key: &Key) -> Json {
    let mut schema = takes(&key.takes, key);
    let help = key.help();
    let description = match key.standing {
        Standing::Obeyed => help.to_owned(),
        Standing::Kept(instead) => format!("{help} Without effect in this release: {instead}."),
        Standing::Later { instead, .. } => {
            format!("{help} Not available in this release: {instead}.")
        }
    };
    schema.insert("description".to_owned(), description.into());
    if let Some(default) = key.default_value() {
        schema.insert("default".to_owned(), default);
    }
    schema.into()
}

fn takes(takes_: &Takes, key: &Key) -> Map<String, Json> {
    let schema = match takes_ {
        Takes::Flag => json!({"type": "boolean"}),
        Takes::Whole(..) | Takes::Within(..) | Takes::Positive | Takes::Option { .. } => {
            return number(takes_, key);
        }
        Takes::OptionOrAuto => json!({"anyOf": [number(takes_, key), {"const": "auto"}]}),
        Takes::Choice(numbers) => json!({"enum": numbers}),
        Takes::Text(rule) => return text(*rule),
        Takes::Word { words, .. } => json!({"enum": words}),
        Takes::Level => json!({"type": ["string", "integer"]}),
        Takes::List(each) => json!({"type": "array", "items": takes(each, key)}),
        Takes::Named(_, each) => {
            json!({"type": "object", "additionalProperties": takes(each, key)})
        }
        Takes::Object(inner) => return object(inner),
        Takes::Json => json!({}),
        Takes::JsonObject => json!({"type": "object"}),
        Takes::OrNull(inner) => json!({"anyOf": [takes(inner, key), {"type": "null"}]}),
    };
    match schema {
        Json::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn number(takes: &Takes, key: &Key) -> Map<String, Json> {
    let mut schema = Map::new();
    let Some(bounds) = takes.bounds(key) else {
        return schema;
    };
    let kind = if bounds.whole { "integer" } else { "number" };
    schema.insert("type".to_owned(), kind.into());
    let from_zero = bounds.least == 0.0;
    let bound = |number: f64| {
        if bounds.whole {
            Json::from(number as i64)
        } else {
            Json::from(number)
        }
    };
    if bounds.least > f64::MIN {
        let name = if bounds.not_zero && from_zero {
            "exclusiveMinimum"
        } else {
            "minimum"
        };
        schema.insert(name.to_owned(), bound(bounds.least));
    }
    if bounds.most < EXACT {
        schema.insert("maximum".to_owned(), bound(bounds.most));
    }
    if bounds.not_zero && !from_zero {
        schema.insert("not".to_owned(), json!({"const": 0}));
    }
    schema
}

fn text(rule: Rule) -> Map<String, Json> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "string".into());
    let pattern = match rule {
        Rule::RoutePrefix => "^/([^{}?#]*[^/{}?#])?$",
        Rule::ImportPath => "^([^:]+:[^:]+|[^:]+\\.[^.:]+)$",
        Rule::RootPath => "^(/.*)?$",
        Rule::RemoteUri => "^[a-z0-9]+://",
        Rule::Name => "^[^#/]+$",
        Rule::NotEmpty | Rule::EnvironmentVariable | Rule::Resource => ".",
        Rule::Any => return schema,
    };
    schema.insert("pattern".to_owned(), pattern.into());
    schema
}

//! The attributes a source is described by: names with texts, numbers and truth values.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{FlakeError, Result};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    Text(String),
    Number(u64),
    Flag(bool),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Attribute {
        Attribute::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Attribute {
        Attribute::Text(text)
    }
}

impl From<u64> for Attribute {
    fn from(number: u64) -> Attribute {
        Attribute::Number(number)
    }
}

impl From<bool> for Attribute {
    fn from(flag: bool) -> Attribute {
        Attribute::Flag(flag)
    }
}

/// Attributes by name, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes(pub BTreeMap<String, Attribute>);

impl Attributes {
    pub fn of<const N: usize>(pairs: [(&str, Attribute); N]) -> Attributes {
        Attributes(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.get(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn set(&mut self, name: &str, value: impl Into<Attribute>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub fn remove(&mut self, name: &str) -> Option<Attribute> {
        self.0.remove(name)
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Text(text)) => Ok(Some(text)),
            Some(other) => {
                Err(FlakeError::Input(format!("input attribute '{name}' is not a string {}", json(other))))
            }
        }
    }

    pub fn required_text(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| FlakeError::Input(format!("input attribute '{name}' is missing")))
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Number(number)) => Ok(Some(*number)),
            Some(_) => Err(FlakeError::Input(format!("input attribute '{name}' is not an integer"))),
        }
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(FlakeError::Input(format!("input attribute '{name}' is not a Boolean"))),
        }
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.get(name) == Some(&Attribute::Flag(true))
    }

    pub fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(name, value)| (name.clone(), json(value))).collect())
    }

    pub fn from_json(value: &Value) -> Result<Attributes> {
        let wrong = |reason: String| FlakeError::Lock(reason);
        let object = value
            .as_object()
            .ok_or_else(|| wrong(format!("expected a set of input attributes, but found {value}")))?;
        let mut attributes = Attributes::default();
        for (name, value) in object {
            let value = match value {
                Value::String(text) => Attribute::Text(text.clone()),
                Value::Bool(flag) => Attribute::Flag(*flag),
                Value::Number(number) if number.is_u64() => {
                    Attribute::Number(number.as_u64().expect("it was looked at"))
                }
                other => {
                    return Err(wrong(format!("unsupported input attribute type in lock file: {other}")));
                }
            };
            attributes.0.insert(name.clone(), value);
        }
        Ok(attributes)
    }
}

fn json(value: &Attribute) -> Value {
    match value {
        Attribute::Text(text) => Value::String(text.clone()),
        Attribute::Number(number) => Value::from(*number),
        Attribute::Flag(flag) => Value::Bool(*flag),
    }
}

impl std::fmt::Display for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.to_json())
    }
}

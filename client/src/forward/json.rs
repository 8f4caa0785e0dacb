//! Values in JSON payloads, by path.

use std::fmt;

use bytes::Bytes;
use serde_json::Value;
use serde_json_path::PathElement;

use super::transform::TransformError;
use crate::error::Error;

/// A JSON path, RFC 9535 (without its functions).
pub(super) struct JsonPath {
    text: Box<str>,
    path: serde_json_path::JsonPath,
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonPath {
    pub fn new(text: &str) -> Result<Self, Error> {
        let bad = |remedy: String| Error::Invalid { what: "the JSON path", given: text.into(), remedy };
        if !text.starts_with('$') {
            return Err(bad("begin it with $, which stands for the whole payload".into()));
        }
        let path = serde_json_path::JsonPath::parse(text).map_err(|error| bad(error.to_string()))?;
        Ok(Self { text: text.into(), path })
    }

    /// The one value that it finds, as a payload.
    pub fn get(&self, payload: &[u8]) -> Result<Bytes, TransformError> {
        let document = parse(payload)?;
        let found = self.path.query(&document).all();
        match found.as_slice() {
            [] => Err(TransformError::NoValue { path: self.to_string() }),
            [Value::String(text)] => Ok(Bytes::from(text.clone())),
            [value] => Ok(write(value)),
            several => Err(TransformError::SeveralValues { path: self.to_string(), count: several.len() }),
        }
    }

    /// Changes every value that it finds.
    pub fn map(
        &self,
        payload: &[u8],
        function: impl Fn(Value) -> Result<Value, String>,
    ) -> Result<Bytes, TransformError> {
        let mut document = parse(payload)?;
        let places = self.places(&document);
        if places.is_empty() {
            return Err(TransformError::NoValue { path: self.to_string() });
        }
        // From the inside out: what is within a value is changed before the value is.
        for place in places.iter().rev() {
            let value = at(&mut document, place);
            *value = function(value.take()).map_err(TransformError::Refused)?;
        }
        Ok(write(&document))
    }

    /// Takes out every value that it finds.
    pub fn remove(&self, payload: &[u8]) -> Result<Bytes, TransformError> {
        let mut document = parse(payload)?;
        // From the last to the first: so the places of those before stay what they are.
        for place in self.places(&document).iter().rev() {
            match place.split_last() {
                None => document = Value::Null,
                Some((Key::Member(name), parent)) => {
                    let members = at(&mut document, parent).as_object_mut();
                    members.expect("members are an object's").remove(&**name);
                }
                Some((Key::Item(index), parent)) => {
                    let items = at(&mut document, parent).as_array_mut();
                    items.expect("items are an array's").remove(*index);
                }
            }
        }
        Ok(write(&document))
    }

    /// Where what it finds is, each place once: a value before what is within it, and items in their order.
    fn places(&self, document: &Value) -> Vec<Vec<Key>> {
        let found = self.path.query_located(document);
        let key = |element: &PathElement<'_>| match element {
            PathElement::Name(name) => Key::Member((*name).into()),
            PathElement::Index(index) => Key::Item(*index),
        };
        let mut places: Vec<Vec<Key>> =
            found.locations().map(|place| place.iter().map(key).collect()).collect();
        places.sort();
        places.dedup();
        places
    }
}

/// A step from a value to one within it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Item(usize),
    Member(Box<str>),
}

fn at<'v>(document: &'v mut Value, place: &[Key]) -> &'v mut Value {
    place.iter().fold(document, |value, key| match key {
        Key::Item(index) => &mut value[*index],
        Key::Member(name) => &mut value[&**name],
    })
}

fn parse(payload: &[u8]) -> Result<Value, TransformError> {
    serde_json::from_slice(payload).map_err(|error| TransformError::NotJson(error.to_string()))
}

fn write(value: &Value) -> Bytes {
    serde_json::to_vec(value).expect("a value in memory can be written").into()
}

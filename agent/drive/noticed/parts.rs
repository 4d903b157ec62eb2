//! The text of an object, taken apart no further than is looked at whenever one arrives: nothing is copied out of it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use wickie_model::Hasher;

use super::{Mark, Text, mark, value};

/// An object.
#[derive(Deserialize)]
pub(in crate::drive) struct Parts<'t> {
    #[serde(borrow)]
    pub(super) metadata: Metadata<'t>,
    #[serde(borrow)]
    pub(super) spec: Option<&'t RawValue>,
    #[serde(borrow)]
    pub(super) status: Option<&'t RawValue>,
}

/// The fields of metadata, managedFields apart.
pub(super) struct Metadata<'t> {
    pub(super) fields: Fields<'t>,
    managed: Vec<ManagedFields<'t>>,
}

impl<'t> Parts<'t> {
    /// Those of an object; nothing where the text is none.
    pub(in crate::drive) fn of(text: &'t Text) -> Option<Self> {
        serde_json::from_str(text.0.get()).ok()
    }
}

impl Metadata<'_> {
    /// The digest of the text of all that [`drift::metadata_digest`](wickie_plan::drift::metadata_digest) looks at, and of more.
    pub(super) fn mark(&self) -> Mark {
        let mut hasher = Hasher::default();
        for (name, raw) in self.fields.0.iter().filter(|(name, _)| *name != "resourceVersion") {
            [name, raw.get()].iter().for_each(|text| hasher.field(text.as_bytes()));
        }
        for entry in self.managed.iter().filter(|entry| entry.subresource != "status") {
            for text in [&entry.manager, &entry.operation, &entry.api_version, &entry.subresource] {
                hasher.field(text.as_bytes());
            }
            hasher.field(entry.fields.map_or("", RawValue::get).as_bytes());
        }
        mark(hasher)
    }
}

/// The fields of an object, each as its text, in the order in which they stand there.
#[derive(Default)]
pub(super) struct Fields<'t>(pub(super) Vec<(&'t str, &'t RawValue)>);

impl<'t> Fields<'t> {
    /// Those of the object that a text is; nothing where it is none.
    pub(super) fn of(raw: &'t RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&'t RawValue> {
        self.0.iter().find(|(field, _)| *field == name).map(|(_, raw)| *raw)
    }

    /// A field that is a text, empty where there is no such field; nothing where it is something else.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map_or_else(|| Some(String::new()), |raw| serde_json::from_str(raw.get()).ok())
    }

    /// An object with those of the fields that are named.
    pub(super) fn only(&self, names: &[&str]) -> Value {
        let named = self.0.iter().filter(|(name, _)| names.contains(name));
        Value::Object(named.map(|(name, raw)| ((*name).to_owned(), value(raw))).collect())
    }
}

impl<'de: 't, 't> Deserialize<'de> for Fields<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Taking::<Self>(PhantomData))
    }
}

impl<'de: 't, 't> Deserialize<'de> for Metadata<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Taking::<Self>(PhantomData))
    }
}

/// Takes an object apart.
struct Taking<T>(PhantomData<T>);

/// Most objects have no more fields than that.
const FIELDS: usize = 12;

impl<'de: 't, 't> Visitor<'de> for Taking<Fields<'t>> {
    type Value = Fields<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(FIELDS);
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

impl<'de: 't, 't> Visitor<'de> for Taking<Metadata<'t>> {
    type Value = Metadata<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut fields, mut managed) = (Vec::with_capacity(FIELDS), Vec::new());
        while let Some(name) = map.next_key::<&str>()? {
            match name {
                "managedFields" => managed = map.next_value()?,
                _ => fields.push((name, map.next_value()?)),
            }
        }
        Ok(Metadata { fields: Fields(fields), managed })
    }
}

/// An entry of managedFields, as far as it counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields<'t> {
    #[serde(borrow, default)]
    manager: Cow<'t, str>,
    #[serde(borrow, default)]
    operation: Cow<'t, str>,
    #[serde(borrow, default)]
    api_version: Cow<'t, str>,
    #[serde(borrow, default)]
    subresource: Cow<'t, str>,
    #[serde(borrow, rename = "fieldsV1")]
    fields: Option<&'t RawValue>,
}

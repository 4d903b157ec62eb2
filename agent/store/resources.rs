//! Table `resource`: what is said of each object that wickie is told by, and the marks people leave on it.

use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};
use wickie_model::{Conditions, Digest, JsonText, Resource, ResourceName};

use super::{Store, StoreError};

/// Where an object that wickie is told by stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In a YAML file of the configuration.
    File,
    /// In the cluster.
    Cluster,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Cluster => "cluster",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "file" => Ok(Self::File),
            "cluster" => Ok(Self::Cluster),
            _ => Err(StoreError::Corrupt { what: "origin", detail: text.to_owned() }),
        }
    }
}

/// What is kept of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which.
    pub resource: Resource,
    /// Where it stands.
    pub origin: Origin,
    /// The digest of the spec that `generation` belongs to.
    pub spec: Digest,
    /// How many specs it has had; the API server's count where it lives in the cluster.
    pub generation: i64,
    /// Whether somebody has told the agent to leave it alone (`wickie suspend`), beside the `suspend` of its spec.
    pub suspended: bool,
    /// Whether it was handed back (`wickie release`): it is left alone, and nothing of it is written to the cluster.
    pub released: bool,
    /// The status subresource, as Flux writes it.
    pub status: JsonText,
    /// Its spec as last seen: a restart without the API starts from it.
    pub seen: Option<JsonText>,
}

/// The marks in the column `suspended`.
const SUSPENDED: i64 = 1;
const RELEASED: i64 = 2;

impl Record {
    /// What its status says of it; nothing where that was never written, or by somebody in another form.
    pub fn conditions(&self) -> Conditions {
        #[derive(Deserialize)]
        struct Part {
            #[serde(default)]
            conditions: Conditions,
        }
        self.status.read().map(|part: Part| part.conditions).unwrap_or_default()
    }
}

const COLUMNS: &str = "kind, namespace, name, origin, spec, generation, suspended, status, document";

/// How many records are read at once: so few that nobody else waits long.
const PAGE: usize = 100;

impl Store {
    /// All records, by kind and name.
    pub async fn records(&self) -> Result<Vec<Record>, StoreError> {
        self.map_records(|record| record).await
    }

    /// What `look` makes of each record, by kind and name. No more of them are in memory than `look` keeps, and others have
    /// their turn in between: who writes at that time may be seen in part.
    pub async fn map_records<T: Send + 'static>(
        &self,
        mut look: impl FnMut(Record) -> T + Send + 'static,
    ) -> Result<Vec<T>, StoreError> {
        let mut looks = Vec::new();
        let mut after = [String::new(), String::new(), String::new()];
        loop {
            let (page, last);
            (page, last, look) = self
                .call(move |connection| {
                    let failed = || StoreError::sql("read the resources");
                    let mut statement = connection
                        .prepare_cached(&format!(
                            "SELECT {COLUMNS} FROM resource WHERE (kind, namespace, name) > (?1, ?2, ?3)
                             ORDER BY kind, namespace, name LIMIT {PAGE}"
                        ))
                        .map_err(failed())?;
                    let mut rows = statement.query(after).map_err(failed())?;
                    let (mut page, mut last) = (Vec::with_capacity(PAGE), None);
                    while let Some(row) = rows.next().map_err(failed())? {
                        let record = read(row)?;
                        last = Some(record.resource.clone());
                        page.push(look(record));
                    }
                    Ok((page, last, look))
                })
                .await?;
            let full = page.len() == PAGE;
            looks.extend(page);
            match last {
                Some(Resource { kind, name }) if full => {
                    after = [kind.as_str().to_owned(), name.namespace.clone(), name.name.clone()];
                }
                _ => return Ok(looks),
            }
        }
    }

    /// The record of one resource, if there is one.
    pub async fn record(&self, resource: Resource) -> Result<Option<Record>, StoreError> {
        self.call(move |connection| {
            let failed = || StoreError::sql("read a resource");
            let mut statement = connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM resource WHERE kind = ?1 AND namespace = ?2 AND name = ?3"
                ))
                .map_err(failed())?;
            let mut rows = statement
                .query([resource.kind.as_str(), &resource.name.namespace, &resource.name.name])
                .map_err(failed())?;
            rows.next().map_err(failed())?.map(read).transpose()
        })
        .await
    }
}

/// Writes a record, unless the very same is there already: then no page of the file changes.
pub(super) fn put(transaction: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    let Record { resource, origin, spec, generation, suspended, released, status, seen } = record;
    let document = seen.as_ref().map(|spec| format!("{{\"spec\":{}}}", spec.as_str()));
    let marks = i64::from(*suspended) * SUSPENDED + i64::from(*released) * RELEASED;
    transaction
        .prepare_cached(
            "INSERT INTO resource (kind, namespace, name, origin, spec, generation, suspended, status, document)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET origin = ?4, spec = ?5, generation = ?6, suspended = ?7, status = ?8, document = ?9
             WHERE origin <> ?4 OR spec <> ?5 OR generation <> ?6 OR suspended <> ?7 OR status <> ?8
                OR document IS NOT ?9",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                resource.kind.as_str(),
                resource.name.namespace,
                resource.name.name,
                origin.as_str(),
                spec.to_string(),
                generation,
                marks,
                status.as_str(),
                document,
            ])
        })
        .map(drop)
        .map_err(StoreError::sql("write a resource"))
}

/// Forgets a resource.
pub(super) fn remove(transaction: &Transaction<'_>, resource: &Resource) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM resource WHERE kind = ?1 AND namespace = ?2 AND name = ?3")
        .and_then(|mut statement| {
            statement.execute([resource.kind.as_str(), &resource.name.namespace, &resource.name.name])
        })
        .map(drop)
        .map_err(StoreError::sql("remove a resource"))
}

fn read(row: &Row<'_>) -> Result<Record, StoreError> {
    let failed = || StoreError::sql("read a resource");
    let text = |column: usize| row.get::<_, String>(column).map_err(failed());
    let corrupt = |what| move |detail: String| StoreError::Corrupt { what, detail };
    let kind = text(0)?;
    let kind = kind.parse().map_err(|()| corrupt("kind")(kind.clone()))?;
    let marks: i64 = row.get(6).map_err(failed())?;
    Ok(Record {
        resource: Resource::new(kind, ResourceName::new(text(1)?, text(2)?)),
        origin: Origin::parse(&text(3)?)?,
        spec: text(4)?.parse().map_err(|error| corrupt("spec digest")(format!("{error}")))?,
        generation: row.get(5).map_err(failed())?,
        suspended: marks & SUSPENDED != 0,
        released: marks & RELEASED != 0,
        status: text(7)?.parse().map_err(|error: serde_json::Error| corrupt("status")(error.to_string()))?,
        seen: row.get::<_, Option<String>>(8).map_err(failed())?.and_then(|text| {
            let document: JsonText = text.parse().ok()?;
            document.pointer("/spec").map(JsonText::from)
        }),
    })
}

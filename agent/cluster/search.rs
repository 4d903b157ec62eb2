//! Looking through everything that the server has for what carries a label.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use kube::core::params::ListParams;
use serde::Deserialize;
use serde_json::Value;
use wickie_model::Gvk;

use super::Cluster;
use super::error::ApiError;
use super::kinds::Kind;

/// Kinds that are listed at once: a server on a small node has others to serve.
const AT_ONCE: usize = 4;

/// The answer of `/apis`. Source: Kubernetes, `APIGroupList` of meta/v1.
#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    versions: Vec<Version>,
    preferred_version: Version,
}

#[derive(Clone, Deserialize, PartialEq, Eq)]
struct Version {
    version: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Search {
    /// The kind of each object, and its metadata.
    pub found: Vec<(Gvk, Value)>,
    /// What could not be looked through, and why.
    pub missed: Vec<ApiError>,
}

impl Cluster {
    /// The metadata of every object that `labels` select, of every kind that can be listed and deleted. It takes a
    /// request a group and one a kind.
    ///
    /// # Errors
    ///
    /// Where the server is away. A group whose own server does not answer, or a kind that may not be listed, is
    /// [`Search::missed`].
    pub async fn search(&self, labels: &str) -> Result<Search, ApiError> {
        let mut search = Search::default();
        let answer = self.get_path("/apis").await?;
        let groups = Groups::deserialize(&answer).map_err(|error| ApiError::other("read /apis".to_owned(), error))?;
        let mut versions = vec![(String::new(), "v1".to_owned())];
        for Group { name, versions: all, preferred_version } in groups.groups {
            // The same object is served in each version of its group: the preferred one comes first.
            let others = all.into_iter().filter(|version| *version != preferred_version);
            versions.push((name.clone(), preferred_version.version.clone()));
            versions.extend(others.map(|other| (name.clone(), other.version)));
        }
        let mut kinds: Vec<Kind> = Vec::new();
        for (group, version) in versions {
            match self.kinds().of_version(self, &group, &version).await {
                Ok(served) => {
                    let new = |kind: &Kind| {
                        let same = |known: &Kind| known.gvk().group == group && known.gvk().kind == kind.gvk().kind;
                        !kinds.iter().any(same)
                    };
                    let new: Vec<_> = served.iter().filter(|kind| kind.is_kept() && new(kind)).cloned().collect();
                    kinds.extend(new);
                }
                Err(error) if error.class.is_away() => return Err(error),
                Err(error) => search.missed.push(error),
            }
        }
        self.look_through(labels, kinds.into_iter().map(|kind| (kind, String::new())).collect(), &mut search).await?;
        Ok(search)
    }

    /// The same of these kinds alone, each in one namespace; without a namespace it is the whole cluster.
    pub async fn search_in(&self, labels: &str, places: BTreeSet<(Gvk, String)>) -> Result<Search, ApiError> {
        let (mut search, mut found) = (Search::default(), Vec::new());
        for (gvk, namespace) in places {
            match self.kind(&gvk).await {
                Ok(kind) => found.push((kind, namespace)),
                Err(error) if error.class.is_away() => return Err(error),
                Err(error) => search.missed.push(error),
            }
        }
        self.look_through(labels, found, &mut search).await?;
        Ok(search)
    }

    async fn look_through(
        &self,
        labels: &str,
        places: Vec<(Kind, String)>,
        search: &mut Search,
    ) -> Result<(), ApiError> {
        let selection = ListParams::default().labels(labels);
        let lists = futures_util::stream::iter(places).map(|(kind, namespace)| {
            let selection = &selection;
            async move { (self.list_in(&namespace, &kind, selection, true, std::convert::identity).await, kind) }
        });
        let mut lists = lists.buffer_unordered(AT_ONCE);
        while let Some((list, kind)) = lists.next().await {
            match list {
                Ok(list) => search.found.extend(list.items.into_iter().map(|item| (kind.gvk().clone(), item))),
                Err(error) if error.class.is_away() => return Err(error),
                Err(error) => search.missed.push(error),
            }
        }
        Ok(())
    }
}

//! How everything stands, in one line: what `systemctl status` shows.
//!
//! Names and reasons alone: what a server or a file said may hold what is nobody's business, and stands in `wickie status`.

use wickie_model::Resource;

use super::ClusterLive;

/// Objects that are named; of the others, the number.
const NAMED: usize = 2;

/// What the line is made of. A suspended object is not counted.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What is waited for before the agent is fully at work.
    pub starting: Vec<String>,
    /// Why another agent writes to the cluster, and not this one.
    pub stands_by: Option<String>,
    /// The cluster, once there was a first word with it.
    pub cluster: Option<ClusterLive>,
    /// Whether the store takes nothing at present.
    pub store_trouble: bool,
    /// Configuration files, or documents of them, that cannot be read.
    pub unreadable: usize,
    /// How many sources there are.
    pub sources: usize,
    /// How many Kustomizations there are.
    pub kustomizations: usize,
    /// Sources and Kustomizations that are not ready, and their reason.
    pub not_ready: Vec<(Resource, String)>,
}

impl Standing {
    /// The line; the worst stands first.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        if self.store_trouble {
            parts.push("the store cannot be written".to_owned());
        }
        if self.unreadable > 0 {
            parts.push(format!("configuration: {} cannot be read", count(self.unreadable, "document")));
        }
        match &self.cluster {
            Some(cluster) if !cluster.reachable => parts.push(format!(
                "waits for the API server {}, out of reach since {}",
                cluster.server,
                cluster.since.strftime("%FT%TZ")
            )),
            _ => {}
        }
        if let Some(why) = &self.stands_by {
            parts.push(format!("stands by: {why}"));
        }
        match self.starting.as_slice() {
            [] => parts.extend(self.ready()),
            [one] => parts.push(format!("starting: {one}")),
            [one, rest @ ..] => parts.push(format!("starting: {one}, and {} more", rest.len())),
        }
        parts.join("; ")
    }

    /// How many are ready, and who is not.
    fn ready(&self) -> Vec<String> {
        if self.sources + self.kustomizations == 0 {
            return vec!["nothing is declared".to_owned()];
        }
        let sources = count(self.sources, "source");
        let name = |(resource, reason): &(Resource, String)| format!("{resource} ({reason})");
        let mut named: Vec<_> = self.not_ready.iter().take(NAMED).map(name).collect();
        if let Some(more) = self.not_ready.len().checked_sub(NAMED).filter(|more| *more > 0) {
            named.push(format!("{more} more"));
        }
        let kustomization =
            |(resource, _): &&(Resource, String)| resource.kind == wickie_model::ResourceKind::Kustomization;
        let failing = self.not_ready.iter().filter(kustomization).count();
        let kustomizations = match self.stands_by {
            // How they stand is known where they are kept.
            Some(_) => format!("follows {sources}"),
            None => {
                let ready = self.kustomizations.saturating_sub(failing);
                format!("{ready} of {} ready, from {sources}", count(self.kustomizations, "Kustomization"))
            }
        };
        let named = (!named.is_empty()).then(|| format!("not ready: {}", named.join(", ")));
        std::iter::once(kustomizations).chain(named).collect()
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wickie_model::{ResourceKind, ResourceName};

    use super::*;

    fn named(kind: ResourceKind, name: &str) -> Resource {
        Resource::new(kind, ResourceName::new("flux-system", name))
    }

    #[test]
    fn what_is_well_takes_few_words() {
        assert_eq!(Standing::default().line(), "nothing is declared");
        let well = Standing { sources: 1, kustomizations: 3, ..Standing::default() };
        assert_eq!(well.line(), "3 of 3 Kustomizations ready, from 1 source");
        let starting = Standing { starting: vec!["a is read".into(), "b".into()], ..well };
        assert_eq!(starting.line(), "starting: a is read, and 1 more");
    }

    #[test]
    fn what_is_wrong_is_named_and_counted() {
        let fails = |kind, name: &str, reason: &str| (named(kind, name), reason.to_owned());
        let not_ready = vec![
            fails(ResourceKind::GitRepository, "fleet", "GitOperationFailed"),
            fails(ResourceKind::Kustomization, "shop", "HealthCheckFailed"),
            fails(ResourceKind::Kustomization, "till", "BuildFailed"),
        ];
        let cluster = ClusterLive {
            server: "https://127.0.0.1:6443/".to_owned(),
            reachable: false,
            since: Timestamp::UNIX_EPOCH,
            why: Some("secret".to_owned()),
        };
        let standing = Standing {
            cluster: Some(cluster),
            store_trouble: true,
            unreadable: 1,
            sources: 1,
            kustomizations: 3,
            not_ready,
            ..Standing::default()
        };
        let line = standing.line();
        assert_eq!(
            line,
            "the store cannot be written; configuration: 1 document cannot be read; \
             waits for the API server https://127.0.0.1:6443/, out of reach since 1970-01-01T00:00:00Z; \
             1 of 3 Kustomizations ready, from 1 source; not ready: GitRepository/flux-system/fleet (GitOperationFailed), \
             Kustomization/flux-system/shop (HealthCheckFailed), 1 more"
        );
    }

    #[test]
    fn who_stands_by_counts_no_kustomizations() {
        let stands_by = Some("node-2 holds Lease kube-system/wickie".to_owned());
        let standing = Standing { stands_by, sources: 2, kustomizations: 3, ..Standing::default() };
        assert_eq!(standing.line(), "stands by: node-2 holds Lease kube-system/wickie; follows 2 sources");
    }
}

//! The least: the manifests sent as they are, eight at a time, by a client that knows every path already.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _};
use kube::api::{DynamicObject, Patch, PatchParams};

use crate::Workload;
use crate::cluster::Namespace;

/// As many as the agent has under way.
const IN_FLIGHT: usize = 8;

pub(crate) async fn run(namespace: &Namespace, workload: Workload) -> Result<Duration> {
    let objects: Vec<DynamicObject> = namespace
        .manifests(workload)
        .iter()
        .map(|(_, text)| serde_saphyr::from_str(text).map_err(anyhow::Error::from))
        .collect::<Result<_>>()?;
    let params = PatchParams::apply("floor").force();
    let start = Instant::now();
    futures_util::stream::iter(objects)
        .map(|object| {
            let params = &params;
            async move {
                let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
                let name = object.metadata.name.clone().unwrap_or_default();
                namespace.api(&kind).patch(&name, params, &Patch::Apply(&object)).await
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(start.elapsed())
}

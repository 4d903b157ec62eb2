//! What the API server says of itself and of us: its version and clock, and whether we may do something.

use http::Request;
use http::header::{CONTENT_TYPE, DATE};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Cluster;
use super::error::ApiError;

/// Something that an account may be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The namespace; empty for the whole cluster.
    pub namespace: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, with its subresource behind a slash.
    pub resource: String,
    /// One object alone; any where it is empty.
    pub name: String,
    /// get, list, watch, create, patch, delete, and the special ones of RBAC.
    pub verb: &'static str,
}

/// What an API server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its version, such as `v1.36.1`.
    pub version: String,
    /// What its clock said; it counts whole seconds.
    pub time: Option<Timestamp>,
}

impl Cluster {
    /// Asks the server for its version and time.
    pub async fn about(&self) -> Result<About, ApiError> {
        let request = Request::get("/version").body(Vec::new()).map_err(kube::core::request::Error::BuildRequest);
        let (parts, answer): (_, Value) = self.send_for_parts("read /version".to_owned(), request).await?;
        let date = parts.headers.get(DATE).and_then(|date| date.to_str().ok());
        let time = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let version = answer.get("gitVersion").and_then(Value::as_str).unwrap_or("an unknown version").to_owned();
        Ok(About { version, time })
    }

    /// Whether our account may do something.
    ///
    /// Source: Kubernetes API, `authorization.k8s.io/v1`, SelfSubjectAccessReview.
    pub async fn may(&self, access: &Access) -> Result<bool, ApiError> {
        let Access { namespace, group, resource, name, verb } = access;
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "name": name, "verb": verb,
            }},
        });
        let request = Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes())
            .map_err(kube::core::request::Error::BuildRequest);
        let (_, answer): (_, Value) =
            self.send_for_parts(format!("ask whether we may {verb} {resource}"), request).await?;
        Ok(answer.pointer("/status/allowed") == Some(&Value::Bool(true)))
    }
}

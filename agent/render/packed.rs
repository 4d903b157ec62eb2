//! The manifests of a build, compressed: what a repair sends is taken from here, and nothing is built again for it.
//!
//! Kept in memory and nowhere else, because what was decrypted stands in it. Each manifest is packed by itself as it is
//! made, so that a build of ten thousand holds no more than one of them whole, and is found without unpacking another.
//! That is why a small one needs help: a dictionary of what is in every manifest ([`WORDS`]) stands before its text.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;

use serde_json::Value;
use wickie_model::{Digest, Manifest, ObjectId};

use crate::zlib::{self, Deflater, Form};

/// What manifests are made of, the most frequent last, where the shortest references reach.
const WORDS: &[u8] = br#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get","list","watch","create","update","patch","delete"]}],"roleRef":{"subjects":[{"apiVersion":"batch/v1","kind":"CronJob","spec":{"jobTemplate":"schedule":"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","openAPIV3Schema":{"description":"properties":{"type":"string","type":"object","type":"array","items":{"required":["apiVersion":"networking.k8s.io/v1","kind":"Ingress","spec":{"ingressClassName":"rules":[{"host":"http":{"paths":[{"backend":{"service":{"path":"/","pathType":"Prefix"}],"tls":["apiVersion":"v1","kind":"Secret","type":"Opaque","stringData":{"apiVersion":"v1","kind":"Namespace","apiVersion":"v1","kind":"ServiceAccount","apiVersion":"v1","data":{"kind":"ConfigMap","apiVersion":"v1","kind":"Service","spec":{"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":"http"}],"selector":{"app":"app.kubernetes.io/name":"}},"type":"ClusterIP"}},null]
{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"annotations":{"labels":{"app.kubernetes.io/name":"app.kubernetes.io/part-of":"kustomize.toolkit.fluxcd.io/name":"kustomize.toolkit.fluxcd.io/namespace":"flux-system"},"name":"namespace":"default"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"strategy":{"type":"Recreate"},"template":{"metadata":{"labels":{"app":"spec":{"containers":[{"args":["command":["env":[{"name":"value":"valueFrom":{"secretKeyRef":{"key":"image":"imagePullPolicy":"IfNotPresent","livenessProbe":{"httpGet":{"path":"/healthz","port":"initialDelaySeconds":"periodSeconds":10},"name":"ports":[{"containerPort":8080,"name":"http","protocol":"TCP"}],"readinessProbe":{"resources":{"limits":{"cpu":"100m","memory":"128Mi"},"requests":{"cpu":"10m","memory":"64Mi"}},"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"readOnlyRootFilesystem":true,"runAsNonRoot":true},"volumeMounts":[{"mountPath":"readOnly":true}],"serviceAccountName":"volumes":[{"configMap":{"emptyDir":{},"secretName":"}]}}}},null]
[{"apiVersion":"v1","data":{"kind":"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":"kustomize.toolkit.fluxcd.io/namespace":"flux-system"},"name":"#;

/// The manifests of a build.
#[derive(Clone, Debug, Default)]
pub struct Packed(
    /// By the hash of the object's id, in that order: ids are kept elsewhere, and long.
    Vec<(u64, Box<[u8]>)>,
);

/// A manifest as it is written: its document, and its digest where that is not the document's.
type Written<B> = (B, Option<Digest>);

/// Packs manifests one by one.
pub(super) struct Packer {
    deflater: Deflater,
    /// Of the manifest that is packed: text, and what becomes of it.
    text: Vec<u8>,
    deflated: Vec<u8>,
    packed: Vec<(u64, Box<[u8]>)>,
}

impl Default for Packer {
    fn default() -> Self {
        let deflater = Deflater::new(Form::Raw(WORDS));
        Self { deflater, text: Vec::new(), deflated: Vec::new(), packed: Vec::new() }
    }
}

impl Packer {
    /// Adds one. Each id may come once.
    ///
    /// # Errors
    /// None that a disk or a link could cause: writing to memory fails with the process.
    pub(super) fn add(&mut self, manifest: &Manifest) -> io::Result<()> {
        let sealed = manifest.holds_secrets().then(|| manifest.digest());
        let written: Written<&Value> = (manifest.body(), sealed);
        self.text.clear();
        serde_json::to_writer(&mut self.text, &written)?;
        self.deflater.deflate(&self.text, &mut self.deflated)?;
        self.packed.push((hash(manifest.id()), self.deflated.as_slice().into()));
        Ok(())
    }

    /// All that were added.
    pub(super) fn finish(mut self) -> Packed {
        self.packed.sort_unstable_by_key(|(hash, _)| *hash);
        self.packed.shrink_to_fit();
        Packed(self.packed)
    }
}

impl Packed {
    /// The manifest of an object, if it was built.
    ///
    /// # Errors
    /// When it cannot be read, which takes memory that fails.
    pub fn get(&self, id: &ObjectId) -> io::Result<Option<Manifest>> {
        let wanted = hash(id);
        let first = self.0.partition_point(|(hash, _)| *hash < wanted);
        for (_, deflated) in self.0[first..].iter().take_while(|(hash, _)| *hash == wanted) {
            let manifest = unpack(deflated)?;
            if manifest.id() == id {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// All manifests.
    ///
    /// # Errors
    /// As [`Packed::get`].
    pub fn all(&self) -> io::Result<BTreeMap<ObjectId, Manifest>> {
        let all = self.0.iter().map(|(_, deflated)| unpack(deflated).map(|manifest| (manifest.id().clone(), manifest)));
        all.collect()
    }
}

fn hash(id: &ObjectId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fn unpack(deflated: &[u8]) -> io::Result<Manifest> {
    let text = zlib::inflate(deflated, Form::Raw(WORDS), deflated.len() * 4, usize::MAX)?;
    let (body, sealed): Written<Value> = serde_json::from_slice(&text)?;
    let manifest = Manifest::new(body).map_err(io::Error::other)?;
    Ok(match sealed {
        Some(digest) => manifest.with_secrets(digest),
        None => manifest,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(name: &str, kind: &str, text: &str) -> Manifest {
        let body = json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
            "data": {"big": 9_007_199_254_740_993_u64, "text": text}
        });
        Manifest::new(body).unwrap()
    }

    fn many(count: usize) -> BTreeMap<ObjectId, Manifest> {
        let plain = (0..count).map(|index| manifest(&format!("till-{index:05}"), "ConfigMap", "ä\u{2028}\n"));
        let noise = |length: usize| std::iter::repeat_with(|| fastrand::char(..)).take(length).collect::<String>();
        let large = [100_000, 10].map(|length| manifest(&format!("noise-{length}"), "ConfigMap", &noise(length)));
        let even = manifest("even", "ConfigMap", &"a".repeat(1_000_000));
        let sealed = manifest("keys", "Secret", "").with_secrets(Digest::of(b"sealed"));
        plain.chain(large).chain([sealed, even]).map(|manifest| (manifest.id().clone(), manifest)).collect()
    }

    fn packed(manifests: &BTreeMap<ObjectId, Manifest>) -> Packed {
        let mut packer = Packer::default();
        manifests.values().for_each(|manifest| packer.add(manifest).unwrap());
        packer.finish()
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let manifests = many(200);
        let packed = packed(&manifests);
        assert_eq!(packed.all().unwrap(), manifests);
        for (id, manifest) in &manifests {
            assert_eq!(packed.get(id).unwrap().as_ref(), Some(manifest));
        }
        assert_eq!(Packed::default().all().unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_was_not_built_is_not_found() {
        let packed = packed(&many(200));
        for (name, kind) in [("a", "Aardvark"), ("till-00064x", "ConfigMap"), ("zzz", "Zebra")] {
            assert_eq!(packed.get(manifest(name, kind, "").id()).unwrap(), None);
        }
    }

    #[test]
    fn two_of_one_hash_are_told_apart() {
        let manifests = many(2);
        let all = packed(&manifests).0;
        let together = Packed(all.into_iter().map(|(_, deflated)| (0, deflated)).collect());
        assert_eq!(together.all().unwrap(), manifests);
        for (id, manifest) in &manifests {
            let mut same = together.clone();
            same.0.iter_mut().for_each(|(of, _)| *of = hash(id));
            assert_eq!(same.get(id).unwrap().as_ref(), Some(manifest));
        }
    }

    #[test]
    fn a_small_one_takes_a_third_of_the_room() {
        let body = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "till", "namespace": "shop", "labels": {"app": "till"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "till"}}, "template": {
                "metadata": {"labels": {"app": "till"}},
                "spec": {"containers": [{"name": "till", "image": "example.com/till:1.2", "ports": [{"containerPort": 8080}],
                    "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}}]}
            }}
        });
        let manifest = Manifest::new(body).unwrap();
        let length = manifest.body().to_string().len();
        let packed = packed(&BTreeMap::from([(manifest.id().clone(), manifest)])).0[0].1.len();
        assert!(packed * 3 < length, "{packed} of {length}");
    }
}

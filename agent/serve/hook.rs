//! Whether a webhook is from whom it says: as Flux checks it, for each sender.
//!
//! Source: `fluxcd/notification-controller`, `internal/server/receiver_handlers.go`; `google/go-github`,
//! `ValidatePayload` and `ValidateSignature`. Unlike there, secrets are compared in constant time everywhere.
//!
//! The path alone is a proof, too: it is a digest of the token. Senders that cannot sign prove nothing beyond it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use wickie_model::ResourceName;

use crate::config::receiver::Sender;
use crate::config::secret::Secret;

/// What a webhook is held against.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The Receiver.
    pub receiver: ResourceName,
    /// Who sends.
    pub sender: Sender,
    /// Events that are heeded; all where it is empty.
    pub events: Vec<String>,
    /// What the sender knows.
    pub token: Secret<Vec<u8>>,
    /// Whether it is not heeded now.
    pub closed: bool,
}

/// All hooks, by their paths. The loop puts them in; who listens looks them up.
#[derive(Clone, Debug, Default)]
pub struct Hooks(Arc<Mutex<HashMap<String, Arc<Hook>>>>);

impl Hooks {
    /// Has `hook` heard at `path`, and its Receiver nowhere else.
    pub fn put(&self, path: String, hook: Hook) {
        let mut hooks = self.lock();
        hooks.retain(|_, known| known.receiver != hook.receiver);
        hooks.insert(path, Arc::new(hook));
    }

    /// A Receiver is heard no more.
    pub fn remove(&self, receiver: &ResourceName) {
        self.lock().retain(|_, known| known.receiver != *receiver);
    }

    /// The hook at a path.
    pub(super) fn at(&self, path: &str) -> Option<Arc<Hook>> {
        self.lock().get(path).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Hook>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a webhook is not heeded. For the log; its sender learns only that it is so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself")]
pub(super) enum Unheeded {
    #[error("the header {0} is missing")]
    Missing(&'static str),
    #[error("the header {0} is not a signature: it is written like sha256=1f2e…")]
    NotASignature(&'static str),
    #[error("the signature in {0} is not that of the token over these bytes")]
    Signature(&'static str),
    #[error("the header {0} is not the token")]
    Token(&'static str),
    #[error("the event {0:?} is not among spec.events")]
    Event(String),
    #[error("the body is not of the content type application/json or application/x-www-form-urlencoded")]
    ContentType,
    #[error("the body is not {0}")]
    Body(&'static str),
}

impl Hook {
    /// Checks a webhook.
    pub(super) fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unheeded> {
        match self.sender {
            Sender::Generic => Ok(()),
            Sender::GenericHmac => self.signed("X-Signature", headers, body),
            Sender::GitHub => {
                self.signed_payload(headers, body)?;
                self.heeds("X-GitHub-Event", headers)
            }
            Sender::Bitbucket => {
                self.signed_payload(headers, body)?;
                self.heeds("X-Event-Key", headers)
            }
            Sender::GitLab => {
                self.has_token("X-Gitlab-Token", headers)?;
                self.heeds("X-Gitlab-Event", headers)
            }
            Sender::Harbor => self.has_token(AUTHORIZATION.as_str(), headers),
            Sender::Nexus => {
                let header = "X-Nexus-Webhook-Signature";
                let signature = hex(text(headers, header)?).ok_or(Unheeded::NotASignature(header))?;
                let matches = verify::<Hmac<Sha1>>(self.token.reveal(), body, &signature);
                matches.then_some(()).ok_or(Unheeded::Signature(header))?;
                json(body)
            }
            Sender::DockerHub | Sender::Quay | Sender::Acr => json(body),
            Sender::CdEvents => {
                cd_event(body)?;
                self.heeds("Ce-Type", headers)
            }
        }
    }

    /// As GitHub and Bitbucket Server sign: SHA-256 where there is one, SHA-1 otherwise, over the body as it came.
    fn signed_payload(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unheeded> {
        let type_ = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let type_ = type_.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if type_ != "application/json" && type_ != "application/x-www-form-urlencoded" {
            return Err(Unheeded::ContentType);
        }
        match headers.contains_key("X-Hub-Signature-256") {
            true => self.signed("X-Hub-Signature-256", headers, body),
            false => self.signed("X-Hub-Signature", headers, body),
        }
    }

    fn signed(&self, header: &'static str, headers: &HeaderMap, body: &[u8]) -> Result<(), Unheeded> {
        let (algorithm, signature) = text(headers, header)?.split_once('=').ok_or(Unheeded::NotASignature(header))?;
        let signature = hex(signature).ok_or(Unheeded::NotASignature(header))?;
        let token = self.token.reveal();
        let matches = match algorithm {
            "sha1" => verify::<Hmac<Sha1>>(token, body, &signature),
            "sha256" => verify::<Hmac<Sha256>>(token, body, &signature),
            "sha512" => verify::<Hmac<Sha512>>(token, body, &signature),
            _ => return Err(Unheeded::NotASignature(header)),
        };
        matches.then_some(()).ok_or(Unheeded::Signature(header))
    }

    /// Compares by digests: how long it takes tells nothing of where two texts differ.
    fn has_token(&self, header: &'static str, headers: &HeaderMap) -> Result<(), Unheeded> {
        let given = headers.get(header).ok_or(Unheeded::Missing(header))?;
        let token = self.token.reveal();
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(token) else { return Err(Unheeded::Token(header)) };
        let digest = mac.chain_update(given.as_bytes()).finalize().into_bytes();
        verify::<Hmac<Sha256>>(token, token, &digest).then_some(()).ok_or(Unheeded::Token(header))
    }

    fn heeds(&self, header: &'static str, headers: &HeaderMap) -> Result<(), Unheeded> {
        let event = headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match self.events.is_empty() || self.events.iter().any(|heeded| heeded.eq_ignore_ascii_case(event)) {
            true => Ok(()),
            false => Err(Unheeded::Event(event.chars().filter(|c| !c.is_control()).take(100).collect())),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, header: &'static str) -> Result<&'a str, Unheeded> {
    let value = headers.get(header).ok_or(Unheeded::Missing(header))?;
    value.to_str().map_err(|_| Unheeded::NotASignature(header))
}

fn verify<M: hmac::Mac + hmac::KeyInit>(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let mac = <M as hmac::KeyInit>::new_from_slice(key);
    mac.is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn json(body: &[u8]) -> Result<(), Unheeded> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(_)) => Ok(()),
        _ => Err(Unheeded::Body("a JSON object")),
    }
}

/// The frame that every CDEvent has (CDEvents specification 0.4, "CDEvents Context" and "CDEvents Subject").
#[derive(Deserialize)]
struct CdEvent {
    context: CdContext,
    subject: CdSubject,
}

#[derive(Deserialize)]
struct CdContext {
    #[serde(alias = "specversion")]
    version: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    type_: String,
    timestamp: jiff::Timestamp,
}

#[derive(Deserialize)]
struct CdSubject {
    id: String,
    content: serde_json::Map<String, Value>,
}

fn cd_event(body: &[u8]) -> Result<(), Unheeded> {
    let refused = Unheeded::Body("a CDEvent");
    let event: CdEvent = serde_json::from_slice(body).map_err(|_| refused.clone())?;
    let CdContext { version, id, source, type_, timestamp } = event.context;
    let CdSubject { id: subject, content } = event.subject;
    let named = [&version, &id, &source, &subject].into_iter().all(|text| !text.is_empty());
    // dev.cdevents.SUBJECT.PREDICATE.VERSION
    let typed = type_.strip_prefix("dev.cdevents.").is_some_and(|rest| rest.split('.').count() >= 4);
    match named && typed && timestamp > jiff::Timestamp::UNIX_EPOCH && content.len() <= 1_000 {
        true => Ok(()),
        false => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn hook(sender: Sender, events: &[&str]) -> Hook {
        Hook {
            receiver: ResourceName::new("flux-system", "hook"),
            sender,
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            token: Secret::new(b"known to both".to_vec()),
            closed: false,
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        pairs.iter().map(pair).collect()
    }

    const BODY: &[u8] = br#"{"ref":"refs/heads/main"}"#;
    // printf '{"ref":"refs/heads/main"}' | openssl dgst -sha1 -hmac 'known to both', and so on.
    const SHA1: &str = "518d55e9d8c2bd9bca0c7e15fed1b462ded57191";
    const SHA256: &str = "e562151bdca9243692a56f851231f5b9d635a24d025b9c61e85b7d1b4ea85fb2";
    const SHA512: &str = "ab1a363e0af9a35bcb965e0c35ef69ef4c096c91f927d96c5b604381a2e431f97fb79ff3183bf082c09602968ad8bd00182f50bee16cfc58e12169900ec31213";

    #[test]
    fn signatures_that_openssl_makes_are_believed_and_no_others() {
        let hook = hook(Sender::GenericHmac, &[]);
        for signature in [format!("sha1={SHA1}"), format!("sha256={SHA256}"), format!("sha512={SHA512}")] {
            assert_eq!(hook.check(&headers(&[("X-Signature", &signature)]), BODY), Ok(()), "{signature}");
            let wrong = hook.check(&headers(&[("X-Signature", &signature)]), b"{}");
            assert_eq!(wrong, Err(Unheeded::Signature("X-Signature")));
        }
        for signature in ["", "sha256", "sha256=", "sha256=zz", "sha256=é", &format!("md5={SHA1}"), SHA256] {
            let error = hook.check(&headers(&[("X-Signature", signature)]), BODY).unwrap_err();
            assert_eq!(error, Unheeded::NotASignature("X-Signature"), "{signature:?}");
        }
        let cut = format!("sha256={}", &SHA256[..62]);
        assert_eq!(hook.check(&headers(&[("X-Signature", &cut)]), BODY), Err(Unheeded::Signature("X-Signature")));
        assert_eq!(hook.check(&headers(&[]), BODY), Err(Unheeded::Missing("X-Signature")));
    }

    #[test]
    fn github_and_bitbucket_sign_a_payload_and_name_its_event() {
        for (sender, event) in [(Sender::GitHub, "X-GitHub-Event"), (Sender::Bitbucket, "X-Event-Key")] {
            let hook = hook(sender, &["push"]);
            let (new, old) = (format!("sha256={SHA256}"), format!("sha1={SHA1}"));
            let json = ("Content-Type", "application/json; charset=utf-8");
            let good = [json, ("X-Hub-Signature-256", new.as_str()), (event, "Push")];
            assert_eq!(hook.check(&headers(&good), BODY), Ok(()));
            assert_eq!(hook.check(&headers(&[json, ("X-Hub-Signature", &old), (event, "push")]), BODY), Ok(()));
            let other = [json, ("X-Hub-Signature-256", new.as_str()), (event, "star")];
            assert_eq!(hook.check(&headers(&other), BODY), Err(Unheeded::Event("star".to_owned())));
            // A good old signature does not make up for a bad new one.
            let both = [json, ("X-Hub-Signature-256", "sha256=00"), ("X-Hub-Signature", old.as_str()), (event, "push")];
            assert_eq!(hook.check(&headers(&both), BODY), Err(Unheeded::Signature("X-Hub-Signature-256")));
            let plain = [("Content-Type", "text/plain"), ("X-Hub-Signature-256", new.as_str()), (event, "push")];
            assert_eq!(hook.check(&headers(&plain), BODY), Err(Unheeded::ContentType));
        }
    }

    #[test]
    fn tokens_in_headers_and_bodies_that_are_read() {
        let gitlab = hook(Sender::GitLab, &["Push Hook"]);
        let good = [("X-Gitlab-Token", "known to both"), ("X-Gitlab-Event", "push hook")];
        assert_eq!(gitlab.check(&headers(&good), b""), Ok(()));
        let wrong = [("X-Gitlab-Token", "known to botH"), ("X-Gitlab-Event", "push hook")];
        assert_eq!(gitlab.check(&headers(&wrong), b""), Err(Unheeded::Token("X-Gitlab-Token")));
        assert_eq!(gitlab.check(&headers(&[]), b""), Err(Unheeded::Missing("X-Gitlab-Token")));
        let harbor = hook(Sender::Harbor, &["ignored"]);
        assert_eq!(harbor.check(&headers(&[("Authorization", "known to both")]), b""), Ok(()));
        assert!(harbor.check(&headers(&[("Authorization", "Bearer known to both")]), b"").is_err());
        let nexus = hook(Sender::Nexus, &[]);
        assert_eq!(nexus.check(&headers(&[("X-Nexus-Webhook-Signature", SHA1)]), BODY), Ok(()));
        assert!(nexus.check(&headers(&[("X-Nexus-Webhook-Signature", SHA1)]), b"{}").is_err());
        for sender in [Sender::DockerHub, Sender::Quay, Sender::Acr] {
            assert_eq!(hook(sender, &[]).check(&headers(&[]), BODY), Ok(()));
            assert_eq!(hook(sender, &[]).check(&headers(&[]), b"nothing"), Err(Unheeded::Body("a JSON object")));
        }
        assert_eq!(hook(Sender::Generic, &[]).check(&headers(&[]), b"anything"), Ok(()));
    }

    #[test]
    fn a_cd_event_has_a_frame() {
        let hook = hook(Sender::CdEvents, &["dev.cdevents.change.merged.0.2.0"]);
        let event = |type_: &str| {
            serde_json::json!({
                "context": {"version": "0.4.1", "id": "1", "source": "/ci", "type": type_, "timestamp": "2026-11-24T05:00:00Z"},
                "subject": {"id": "2", "content": {"repository": {"id": "x"}}}
            })
            .to_string()
        };
        let type_ = "dev.cdevents.change.merged.0.2.0";
        assert_eq!(hook.check(&headers(&[("Ce-Type", type_)]), event(type_).as_bytes()), Ok(()));
        assert!(matches!(hook.check(&headers(&[]), event(type_).as_bytes()), Err(Unheeded::Event(_))));
        let refused = Err(Unheeded::Body("a CDEvent"));
        assert_eq!(hook.check(&headers(&[("Ce-Type", type_)]), event("com.example.change").as_bytes()), refused);
        assert_eq!(hook.check(&headers(&[("Ce-Type", type_)]), BODY), refused);
    }

    #[test]
    fn a_receiver_is_heard_at_one_path_and_its_token_does_not_print() {
        let hooks = Hooks::default();
        hooks.put("/hook/1".to_owned(), hook(Sender::Generic, &[]));
        hooks.put("/hook/2".to_owned(), hook(Sender::Generic, &[]));
        assert!(hooks.at("/hook/1").is_none() && hooks.at("/hook/2").is_some());
        assert!(!format!("{hooks:?}").contains("known"));
        hooks.remove(&ResourceName::new("flux-system", "hook"));
        assert!(hooks.at("/hook/2").is_none());
    }
}

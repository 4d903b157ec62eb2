//! Receivers: whose webhooks ask for what.
//!
//! A webhook asks as a person does: at once, whatever fetch window and budget say. Many that come while a source is being
//! asked are answered by asking once more.

use std::sync::Arc;
use std::time::Duration;

use wickie_model::{Resource, ResourceKind, ResourceName, condition_type};
use wickie_plan::cycle::Cause;

use super::Drive;
use crate::config::receiver::{Receiver, Which};
use crate::config::{Declared, Secrets};
use crate::serve::Hook;

/// How often the Secret of a Receiver is looked for again that is not there.
const AGAIN: Duration = Duration::from_secs(30);

/// A Receiver.
pub(super) struct ReceiverState {
    /// Nothing while it cannot be followed.
    receiver: Option<Receiver>,
    due: Option<Duration>,
}

impl Drive {
    pub(super) fn receiver_declared(&mut self, declared: &Declared) {
        let name = declared.resource.name.clone();
        self.receivers.insert(name, ReceiverState { receiver: None, due: None });
        self.find_secrets(&declared.resource);
    }

    pub(super) fn receiver_secrets(&mut self, declared: &Declared, secrets: &Secrets) {
        let name = declared.resource.name.clone();
        let read = Receiver::new(declared, &self.node).and_then(|receiver| {
            let token = receiver.token(secrets.get(&receiver.secret))?;
            Ok((receiver, token))
        });
        let (receiver, token) = match read {
            Ok(read) => read,
            Err(invalid) => {
                self.hooks.remove(&name);
                // A Secret may come; nothing tells of it but a look.
                let due = Some(self.clock.now() + AGAIN);
                self.receivers.insert(name, ReceiverState { receiver: None, due });
                return self.say_usable(&declared.resource, Some(invalid.to_string()));
            }
        };
        let path = receiver.path(&token);
        self.hooks.put(
            path.clone(),
            Hook {
                receiver: name.clone(),
                sender: receiver.sender,
                events: receiver.events.clone(),
                token,
                closed: receiver.suspend || self.is_suspended(declared),
            },
        );
        self.receivers.insert(name, ReceiverState { receiver: Some(receiver), due: None });
        let nobody = "nothing listens for it: start wickie run with --listen".to_owned();
        self.say_usable(&declared.resource, self.settings.listen.is_none().then_some(nobody));
        self.set_status(&declared.resource, |conditions, fields, generation| {
            let initialized = format!("Receiver initialized for path: {path}");
            if let Some(ready) = conditions.get(condition_type::READY).filter(|ready| ready.message == "Initialized") {
                let (status, reason, at) = (ready.status, ready.reason.clone(), ready.last_transition_time);
                conditions.set(condition_type::READY, status, &reason, initialized, generation, at);
            }
            fields.insert("webhookPath".to_owned(), path.into());
        });
    }

    pub(super) fn receiver_without_secrets(&mut self, name: &ResourceName, why: String) {
        if let Some(state) = self.receivers.get_mut(name) {
            state.due = Some(self.clock.now() + AGAIN);
        }
        tracing::debug!(receiver = %name, why, "its Secret cannot be read");
    }

    pub(super) fn receiver_removed(&mut self, name: &ResourceName) {
        self.receivers.remove(name);
        self.hooks.remove(name);
    }

    pub(super) fn tick_receivers(&mut self, now: Duration) {
        let due = |state: &ReceiverState| state.due.is_some_and(|due| due <= now);
        let names: Vec<_> =
            self.receivers.iter().filter(|(_, state)| due(state)).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(state) = self.receivers.get_mut(&name) {
                state.due = None;
            }
            self.find_secrets(&Resource::new(ResourceKind::Receiver, name));
        }
    }

    pub(super) fn receivers_wake(&self) -> Option<Duration> {
        self.receivers.values().filter_map(|state| state.due).min()
    }

    /// A webhook came that is believed: each thing that its Receiver names is asked for, once.
    pub(super) fn hooked(&mut self, name: &ResourceName) -> Result<(), String> {
        let receiver = self.receivers.get(name).and_then(|state| state.receiver.as_ref());
        let receiver = receiver.ok_or_else(|| format!("there is no Receiver {name} any more"))?;
        let wanted = |declared: &&Arc<Declared>| receiver.resources.iter().any(|wanted| wanted.is(declared));
        let found: Vec<_> = self.declared.values().filter(wanted).cloned().collect();
        let missing: Vec<_> = receiver
            .resources
            .iter()
            .filter(|wanted| matches!(wanted.which, Which::Named(_)) && !found.iter().any(|found| wanted.is(found)))
            .filter_map(|wanted| match &wanted.which {
                Which::Named(name) => Some(format!("{} {}/{name}", wanted.kind, wanted.namespace)),
                Which::Labelled(_) => None,
            })
            .collect();
        for declared in found {
            if self.is_suspended(&declared) {
                continue;
            }
            tracing::info!(receiver = %name, resource = %declared.resource, "a webhook asks");
            match declared.resource.kind {
                ResourceKind::GitRepository => self.ask_source(&declared.resource.name),
                _ => self.admit(&declared.resource.name, Cause::Request),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("the agent has no {}", missing.join(", "))) }
    }
}

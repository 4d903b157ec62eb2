//! The words the rest of wickie is written in.
//!
//! Everything here is a value: no I/O, no clock, no async. Every stage of the flow
//! (source, render, plan, apply, report) and the store speak in these types, so that a stage
//! never needs to know another stage to understand what it is handed.

mod budget;
mod cause;
mod condition;
mod digest;
mod event;
mod health;
mod inventory;
mod json_text;
mod manifest;
mod object;
mod resource;
mod revision;
mod trial;
mod window;

pub use budget::{BUDGET_FORM, Budget, ParseBudgetError, ParseSizeError, Period, parse_size};
pub use cause::Cause;
pub use condition::{Condition, ConditionStatus, Conditions, condition_type, reason};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use event::{Event, Severity};
pub use health::{Health, Verdict};
pub use inventory::{Entry, EntryState, Fingerprint, Inventory};
pub use json_text::JsonText;
pub use manifest::{Manifest, ManifestError};
pub use object::{Gvk, ObjectId, ObjectMap, ObjectParts};
pub use resource::{NameParts, Resource, ResourceKind, ResourceName};
pub use revision::{Oid, ParseOidError, ParseRevisionError, Revision};
pub use trial::{Ending, Trial};
pub use window::{ParseWindowError, WINDOW_FORM, Window, Windows};

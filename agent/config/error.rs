//! Why a declared object cannot be followed.

/// A declared object that cannot be followed as it stands. The message names the field and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Flux has this field, wickie does not follow it.
    #[error("{field} is a field of Flux that wickie does not support: {way_out}")]
    Unsupported {
        /// The field's path.
        field: String,
        /// What to do instead.
        way_out: &'static str,
    },
    /// Nobody knows this field.
    #[error("{field} is not a field of this kind; check its spelling")]
    Unknown {
        /// The field's path.
        field: String,
    },
    /// The field's value cannot be used.
    #[error("{field}: {why}")]
    Field {
        /// The field's path.
        field: String,
        /// What is wrong, and what it takes.
        why: String,
    },
    /// An object that is named is not there.
    #[error("{field} names {kind} {name}, which is not there; create it, or take the field out")]
    Missing {
        /// The field's path.
        field: String,
        /// What kind of object.
        kind: &'static str,
        /// `namespace/name`.
        name: String,
    },
}

impl Invalid {
    pub(crate) fn field(field: impl Into<String>, why: impl ToString) -> Self {
        Self::Field { field: field.into(), why: why.to_string() }
    }
}

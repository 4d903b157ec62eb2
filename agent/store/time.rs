//! Times as the file keeps them: milliseconds since 1970, UTC.

use jiff::Timestamp;

use super::StoreError;

/// The column value of a time.
pub(super) fn to_column(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// The time that a column holds.
pub(super) fn from_column(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis)
        .map_err(|error| StoreError::Corrupt { what: "time", detail: format!("{millis}: {error}") })
}

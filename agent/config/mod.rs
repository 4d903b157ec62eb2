//! What wickie is told: raw as written, validated as used. Files and cluster objects become the same types.

pub mod duration;
pub mod notification;

//! wickie

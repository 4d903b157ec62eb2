//! Tests of the bench itself: that its parts are what they claim to be, and that its faults happen.

mod children;
mod control_plane;
mod faults;
mod git;
mod proxy;
mod receiver;

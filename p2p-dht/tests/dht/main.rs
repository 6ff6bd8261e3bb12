//! What holds of the hash table over the overlays, in one program: its records, their repair and survival, and what
//! liars cannot do.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[macro_use]
mod world;

mod liars;
mod records;
mod repair;
mod survival;

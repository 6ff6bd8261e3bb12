//! What holds of the hash table over the overlays, in one program: its records, how they are asked for, their repair and
//! survival, and what liars cannot do.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[macro_use]
mod world;

mod archive;
mod calls;
mod cfs;
mod custom;
mod hot;
mod liars;
mod past;
mod records;
mod removal;
mod repair;
mod survival;
mod swaps;
mod sweep;

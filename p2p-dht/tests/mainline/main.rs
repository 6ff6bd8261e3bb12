//! The Mainline DHT: by its specifications' numbers, among a thousand nodes, and over real UDP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;
mod vectors;
mod world;

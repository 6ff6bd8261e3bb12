//! Nodes among each other: a network in the simulator that loses messages, is cut in two and crashes, and single nodes among
//! adversaries.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod attacks;
mod board;
mod clients;
mod convergence;
mod eclipse;
#[cfg(feature = "wallet")]
mod hour;
mod light;
#[cfg(feature = "wallet")]
mod light_wallets;
mod pools;
mod propagation;
mod relay;
mod support;
#[cfg(feature = "wallet")]
mod wallets;

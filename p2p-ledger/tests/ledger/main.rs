//! The ledger from outside: real headers, the papers' figures, attacks, and a model to compare it with.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod attacks;
mod authority;
mod bitcoin;
mod filters;
mod limits;
mod model;
mod pool;
mod pruning;
mod races;
mod reopen;
mod support;
mod sync;

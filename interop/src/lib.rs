//! Tests with programs no one here wrote: see `tests/`.

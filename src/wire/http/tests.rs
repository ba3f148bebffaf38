//! The acceptance tables.

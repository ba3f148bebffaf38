//! The calls, row by row.

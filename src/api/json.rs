//! Appends our own types as JSON to a body that is being written.

use serde::Serialize;

/// Appends a value.
pub(super) fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("our own answer types have string keys and serialize");
}

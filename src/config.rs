//! The configuration: text from a file, the environment and flags in, checked values out.

mod draft;
mod error;
mod example;
mod kind;
mod load;
mod settings;
mod source;
mod table;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Origin};
pub use settings::{Config, EventLogMode, EventLogSync, LogFormat, Tls};
pub use source::{FlagSetting, Sources};

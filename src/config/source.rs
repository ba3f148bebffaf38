//! Where values come from: a file, the environment, flags; each later one wins.

use super::{
    error::{ConfigError, Origin},
    kind::Raw,
    table::{KEYS, Key},
};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// A value given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagSetting {
    /// The flag as the operator knows it, for messages.
    pub flag: String,
    /// The dotted name of the key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// All that a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are not ours are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags, in order: a later one wins.
    pub flags: Vec<FlagSetting>,
}

impl Sources {
    /// With the environment of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<FlagSetting>) -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        Self { file, environment, flags }
    }
}

/// One value for one key.
pub(super) struct Setting {
    pub key: &'static Key,
    pub raw: Raw,
    pub origin: Origin,
}

/// What a file sets.
pub(super) fn from_file(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), why: error.to_string() })?;
    from_text(&text, path)
}

/// What the text of a file sets.
pub(super) fn from_text(text: &str, path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let file = File { text, path };
    let table = DeTable::parse(text).map_err(|error| ConfigError::NotToml {
        origin: file.origin(error.span().map_or(0, |span| span.start)),
        why: error.message().to_owned(),
    })?;
    let mut settings = Vec::new();
    file.collect("", table.get_ref(), &mut settings)?;
    Ok(settings)
}

struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        Origin::File(self.path.to_owned(), memchr::memchr_iter(b'\n', before).count() + 1)
    }

    /// Goes down one level: sections are one deep, and a table anywhere else is an unknown key.
    fn collect(&self, section: &str, table: &DeTable<'_>, settings: &mut Vec<Setting>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let origin = self.origin(name.span().start);
            let dotted = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{name}") };
            match (value.get_ref(), Key::find(&dotted)) {
                (DeValue::Table(inner), _) if is_section(&dotted) => self.collect(&dotted, inner, settings)?,
                (value, Some(key)) => settings.push(Setting { key, raw: raw(value), origin }),
                (_, None) => return Err(unknown(dotted, origin)),
            }
        }
        Ok(())
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other(number.as_str().to_owned()),
        },
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map_or_else(|| Raw::Other("a list".to_owned()), Raw::List)
        }
        DeValue::Float(number) => Raw::Other(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Raw::Other(truth.to_string()),
        DeValue::Datetime(time) => Raw::Other(time.to_string()),
        DeValue::Table(_) => Raw::Other("a table".to_owned()),
    }
}

/// Variables of ours that set no key: the client's.
const OTHER_VARIABLES: &[&str] =
    &["GATECAST_CONFIG", "GATECAST_SERVER", "GATECAST_ADMIN_TOKEN", "GATECAST_CA", "GATECAST_TOKEN"];

/// What the environment sets: names of the platform that came before first, so that ours win.
pub(super) fn from_environment(variables: &[(String, String)]) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let legacy = KEYS.iter().find_map(|key| key.legacy.filter(|(legacy, _)| legacy == name).map(|it| (key, it.1)));
        if let Some((key, unit)) = legacy {
            let bare = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let value = if bare { format!("{value}{unit}") } else { value.clone() };
            settings.push(Setting { key, raw: Raw::Untyped(value), origin: Origin::Environment(name.clone()) });
        }
    }
    let ours = variables.iter().filter(|(name, _)| name.starts_with("GATECAST_"));
    for (name, value) in ours.filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str()) && !is_service_link(name)) {
        let origin = Origin::Environment(name.clone());
        let key = Key::find_variable(name).ok_or_else(|| unknown_variable(name, origin.clone()))?;
        settings.push(Setting { key, raw: Raw::Untyped(value.clone()), origin });
    }
    Ok(settings)
}

/// What flags set.
pub(super) fn from_flags(flags: &[FlagSetting]) -> Result<Vec<Setting>, ConfigError> {
    let setting = |given: &FlagSetting| {
        let origin = Origin::Flag(given.flag.clone());
        let key = Key::find(&given.key).ok_or_else(|| unknown(given.key.clone(), origin.clone()))?;
        Ok(Setting { key, raw: Raw::Untyped(given.value.clone()), origin })
    };
    flags.iter().map(setting).collect()
}

/// Kubernetes puts the address of a service named `gatecast…` into such variables of every pod.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_PORT")
        || name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split("_PORT_").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn unknown(key: String, origin: Origin) -> ConfigError {
    let nearest = Key::nearest(&key);
    ConfigError::UnknownKey { key, origin, nearest }
}

fn unknown_variable(name: &str, origin: Origin) -> ConfigError {
    let key = name.trim_start_matches("GATECAST_").to_ascii_lowercase().replacen('_', ".", 1);
    unknown(key, origin)
}

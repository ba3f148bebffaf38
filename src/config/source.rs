//! Reads settings from a file, the environment and flags. A later source overrides an earlier one.

use super::{
    error::{ConfigError, Origin},
    kind::Raw,
    table::{KEYS, Key},
};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// One key set by a command-line flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagSetting {
    /// The flag with its dashes, for error messages.
    pub flag: String,
    /// The key's dotted name.
    pub key: String,
    /// The value as text.
    pub value: String,
}

/// The sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables as name and value; names that Gatecast does not define are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags in order: a later one overrides an earlier one for the same key.
    pub flags: Vec<FlagSetting>,
}

impl Sources {
    /// Takes the environment from this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<FlagSetting>) -> Self {
        // Lossy, because a variable of another program that is not UTF-8 must not keep the hub from starting.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        Self { file, environment, flags }
    }
}

/// One value for one key, and where it was set.
pub(super) struct Setting {
    pub key: &'static Key,
    pub raw: Raw,
    pub origin: Origin,
}

/// Reads the settings of a file.
pub(super) fn from_file(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), why: error.to_string() })?;
    from_text(&text, path)
}

/// Reads the settings of a file's text; the path is for error messages.
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

    /// Collects the settings of a table. Sections are one level deep; a table anywhere else is an unknown key.
    fn collect(&self, section: &str, table: &DeTable<'_>, settings: &mut Vec<Setting>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let origin = self.origin(name.span().start);
            let dotted = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{name}") };
            match (value.get_ref(), Key::find(&dotted)) {
                // `tls` is both a section and another name of `tls.mode`, so the section is looked for first.
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
        // TOML integers are signed and may have a radix. No key takes a negative one, so it is kept as text for the
        // error.
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

/// Variables that configure the commands and not the hub: they set no key.
const OTHER_VARIABLES: &[&str] =
    &["GATECAST_CONFIG", "GATECAST_SERVER", "GATECAST_ADMIN_TOKEN", "GATECAST_CA", "GATECAST_TOKEN"];

/// Reads the settings of the environment. Legacy names come first, so that `GATECAST_` names override them.
pub(super) fn from_environment(variables: &[(String, String)]) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let legacy = KEYS.iter().find_map(|key| key.legacy.filter(|(legacy, _)| legacy == name).map(|it| (key, it.1)));
        if let Some((key, unit)) = legacy {
            // The older platform took a bare number of seconds, for which a duration here needs a unit.
            let bare = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let value = if bare { format!("{value}{unit}") } else { value.clone() };
            settings.push(Setting { key, raw: Raw::Untyped(value), origin: Origin::Environment(name.clone()) });
        }
    }
    // An unknown `GATECAST_` variable is an error, because a misspelt one would otherwise be ignored without a word.
    let ours = variables.iter().filter(|(name, _)| name.starts_with("GATECAST_"));
    for (name, value) in ours.filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str()) && !is_service_link(name)) {
        let origin = Origin::Environment(name.clone());
        let key = Key::find_variable(name).ok_or_else(|| unknown_variable(name, origin.clone()))?;
        settings.push(Setting { key, raw: Raw::Untyped(value.clone()), origin });
    }
    Ok(settings)
}

/// Reads the settings of the flags.
pub(super) fn from_flags(flags: &[FlagSetting]) -> Result<Vec<Setting>, ConfigError> {
    let setting = |flag: &FlagSetting| {
        let origin = Origin::Flag(flag.flag.clone());
        let key = Key::find(&flag.key).ok_or_else(|| unknown(flag.key.clone(), origin.clone()))?;
        Ok(Setting { key, raw: Raw::Untyped(flag.value.clone()), origin })
    };
    flags.iter().map(setting).collect()
}

/// Whether the name is one of those in which Kubernetes announces a service to every pod. A service called `gatecast`
/// gets names such as `GATECAST_SERVICE_HOST` and `GATECAST_PORT_9243_TCP_ADDR`, which must not count as misspelt keys.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_PORT")
        || name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split("_PORT_").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Keys of earlier versions, and what to do instead.
const RETIRED: &[(&str, &str)] = &[(
    "limits.outbox_bytes",
    "remove it; connections share `limits.recent_bytes`, and a slow one is closed only after `limits.write_deadline`",
)];

fn unknown(key: String, origin: Origin) -> ConfigError {
    if let Some((_, advice)) = RETIRED.iter().find(|(retired, _)| *retired == key) {
        return ConfigError::RetiredKey { key, origin, advice };
    }
    let nearest = Key::nearest(&key);
    ConfigError::UnknownKey { key, origin, nearest }
}

fn unknown_variable(name: &str, origin: Origin) -> ConfigError {
    // Only the first `_` becomes a dot: a key has one section, and `_` inside its name stays.
    let key = name.trim_start_matches("GATECAST_").to_ascii_lowercase().replacen('_', ".", 1);
    unknown(key, origin)
}

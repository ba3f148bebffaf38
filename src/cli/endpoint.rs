//! Finds the hub that a command calls: one on this machine by its data directory, or another by flags and variables.

use super::{Failure, client::Client};
use clap::Args;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::path::{Path, PathBuf};

/// The file in the data directory with the hub's URL. The hub writes it when it starts.
pub const ADDRESS_FILE: &str = "address";
/// The file in the data directory with the admin token.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";
/// The file in the data directory with the hub's own certificate.
const CERTIFICATE_FILE: &str = crate::tls::CERT_FILE;

/// The flags that name a hub and the certificates to trust.
#[derive(Args, Clone, Default)]
pub struct HubArgs {
    /// Data directory of a hub on this machine [default: $GATECAST_DATA, or gatecast-data]
    #[arg(long, value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
    /// URL of another hub, such as https://hub.example.com:9243 [default: $GATECAST_SERVER]
    #[arg(long, value_name = "URL", global = true)]
    pub server: Option<String>,
    /// PEM file with the certificates to trust [default: $GATECAST_CA, the certificate in the data directory, or the
    /// public authorities]
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
}

/// The flags that name a hub and its admin token.
#[derive(Args, Clone, Default)]
pub struct AdminArgs {
    /// The hub.
    #[command(flatten)]
    pub hub: HubArgs,
    /// The admin token, or @FILE to read it from a file [default: $GATECAST_ADMIN_TOKEN, or the one in the data
    /// directory]
    #[arg(long, value_name = "TOKEN", global = true, allow_hyphen_values = true)]
    pub admin_token: Option<String>,
}

/// Looks up an environment variable. Tests pass their own, because the environment of a process is shared by all tests.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Looks up a variable in the environment of this process. An empty one counts as unset.
pub fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The URL of a hub and the certificates to trust.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://host:port`, without a slash at the end.
    pub base: String,
    /// The only certificates to trust; `None` trusts the public authorities.
    pub trusted: Option<Vec<CertificateDer<'static>>>,
}

impl HubArgs {
    /// Finds the hub to call.
    ///
    /// # Errors
    /// No hub was found or a value is invalid: what was looked for, where, and what to do.
    pub fn endpoint(&self, variables: Variables<'_>) -> Result<Endpoint, Failure> {
        let data = self.data(variables);
        let given = self.server.clone().or_else(|| variables("GATECAST_SERVER"));
        let base = match &given {
            Some(url) => check_url(url)?,
            None => check_url(&read_line(&data.join(ADDRESS_FILE)).map_err(|_| no_hub(&data))?)?,
        };
        let ca = self.ca.clone().or_else(|| variables("GATECAST_CA").map(PathBuf::from));
        let own = data.join(CERTIFICATE_FILE);
        let trusted = match ca {
            Some(file) => Some(certificates(&file)?),
            // With --server, the local data directory belongs to a different hub, unless --data was given as well. Its
            // certificate must not replace the public authorities there.
            None if (given.is_none() || self.data.is_some()) && own.exists() => Some(certificates(&own)?),
            None => None,
        };
        Ok(Endpoint { base, trusted })
    }

    fn data(&self, variables: Variables<'_>) -> PathBuf {
        let data = self.data.clone().or_else(|| variables("GATECAST_DATA").map(PathBuf::from));
        data.unwrap_or_else(|| crate::Config::default().data)
    }
}

impl AdminArgs {
    /// Finds the admin token.
    fn token(&self, variables: Variables<'_>) -> Result<String, Failure> {
        if let Some(token) = self.admin_token.clone().or_else(|| variables("GATECAST_ADMIN_TOKEN")) {
            return read_secret(&token);
        }
        let another = self.hub.server.is_some() || variables("GATECAST_SERVER").is_some();
        if another && self.hub.data.is_none() {
            // The local hub's token must not be sent to another hub.
            let sentence = "missing admin token: with --server, give it with --admin-token or GATECAST_ADMIN_TOKEN";
            return Err(Failure::Usage(sentence.to_owned()));
        }
        let file = self.hub.data(variables).join(ADMIN_TOKEN_FILE);
        read_line(&file).map_err(|error| {
            Failure::Failed(format!(
                "cannot read {} ({error}): give the admin token with --admin-token",
                file.display()
            ))
        })
    }

    /// Creates a client of the hub to call.
    ///
    /// # Errors
    /// As for [`HubArgs::endpoint`]; or the admin token was not found.
    pub fn client(&self) -> Result<Client, Failure> {
        let endpoint = self.hub.endpoint(&process_variable)?;
        Ok(Client::new(&endpoint.base, endpoint.trusted.as_deref(), &self.token(&process_variable)?))
    }
}

fn no_hub(data: &Path) -> Failure {
    let data = data.display();
    Failure::Failed(format!(
        "found no hub in {data}: start one with `gatecast serve`, or name one with --data or --server"
    ))
}

fn check_url(url: &str) -> Result<String, Failure> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    // Request paths are appended to this URL, so that it must have none of its own.
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', ' ', '@']) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(Failure::Usage(format!("invalid hub URL {url:?}: expected the form https://hub.example.com:9243"))),
    }
}

/// Resolves the value of a flag for a secret: the secret itself, or `@FILE` to keep it out of the process list.
pub fn read_secret(given: &str) -> Result<String, Failure> {
    match given.strip_prefix('@') {
        Some(file) => read_line(Path::new(file))
            .map_err(|error| Failure::Usage(format!("cannot read the token from {file}: {error}"))),
        None => Ok(given.to_owned()),
    }
}

fn read_line(file: &Path) -> std::io::Result<String> {
    // Editors and `echo` end a file with a line break, which is part of neither a token nor a URL.
    let text = std::fs::read_to_string(file)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let refused = |why: String| Failure::Usage(format!("cannot read certificates from {}: {why}", file.display()));
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| refused(error.to_string()))?;
    if certificates.is_empty() { Err(refused("expected PEM, found none".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn data(address: Option<&str>, token: Option<&str>, certificate: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name, text: Option<&str>| text.map(|text| fs::write(dir.path().join(name), format!("{text}\n")));
        let _ = (write(ADDRESS_FILE, address), write(ADMIN_TOKEN_FILE, token));
        if certificate {
            crate::tls::self_signed(dir.path()).expect("it can be made");
        }
        dir
    }

    fn admin(data: Option<&Path>, server: Option<&str>, token: Option<&str>) -> AdminArgs {
        let hub = HubArgs { data: data.map(Path::to_owned), server: server.map(str::to_owned), ca: None };
        AdminArgs { hub, admin_token: token.map(str::to_owned) }
    }

    const NONE: Variables<'static> = &|_| None;

    #[test]
    fn a_hub_on_this_machine_is_found_by_its_data_directory() {
        let dir = data(Some("https://127.0.0.1:9243"), Some("t0ken"), true);
        let check = |arguments: AdminArgs, variables: Variables<'_>| {
            let endpoint = arguments.hub.endpoint(variables).expect("it is found");
            assert_eq!(endpoint.base, "https://127.0.0.1:9243");
            assert_eq!(endpoint.trusted.map(|trusted| trusted.len()), Some(1));
            assert_eq!(arguments.token(variables).expect("it is there"), "t0ken");
        };
        check(admin(Some(dir.path()), None, None), NONE);
        let path = dir.path().display().to_string();
        check(admin(None, None, None), &|name| (name == "GATECAST_DATA").then(|| path.clone()));
    }

    #[test]
    fn flags_override_the_environment_and_the_environment_overrides_the_data_directory() {
        let dir = data(Some("https://127.0.0.1:9243"), Some("t0ken"), false);
        let variables: Variables<'_> = &|name| match name {
            "GATECAST_SERVER" => Some("https://variable:1".to_owned()),
            "GATECAST_ADMIN_TOKEN" => Some("of-variable".to_owned()),
            _ => None,
        };
        let check = |arguments: AdminArgs, variables, base: &str, token: &str| {
            assert_eq!(arguments.hub.endpoint(variables).expect("it is valid").base, base);
            assert_eq!(arguments.token(variables).expect("it is valid"), token);
        };
        check(admin(Some(dir.path()), None, None), variables, "https://variable:1", "of-variable");
        check(admin(None, Some("https://flag:2/"), Some("of-flag")), variables, "https://flag:2", "of-flag");
        check(admin(Some(dir.path()), Some("https://flag:2"), None), NONE, "https://flag:2", "t0ken");
        let file = format!("@{}", dir.path().join(ADMIN_TOKEN_FILE).display());
        check(admin(None, Some("https://flag:2"), Some(&file)), NONE, "https://flag:2", "t0ken");
    }

    #[test]
    fn the_local_admin_token_is_not_sent_to_another_hub() {
        let dir = data(Some("https://127.0.0.1:9243"), Some("t0ken"), true);
        let path = dir.path().display().to_string();
        let variables: Variables<'_> = &|name| (name == "GATECAST_DATA").then(|| path.clone());
        let arguments = admin(None, Some("https://elsewhere:9243"), None);
        assert!(matches!(arguments.token(variables), Err(Failure::Usage(_))));
        assert!(arguments.hub.endpoint(variables).expect("it is valid").trusted.is_none());
    }

    #[test]
    fn errors_name_what_is_missing_and_say_what_to_do() {
        let check = |arguments: AdminArgs, expected: &str| {
            let error = arguments.hub.endpoint(NONE).err().or_else(|| arguments.token(NONE).err());
            let error = error.expect("something is missing").to_string();
            assert!(error.contains(expected), "{error}");
        };
        let empty = data(None, None, false);
        check(
            admin(Some(empty.path()), None, None),
            "start one with `gatecast serve`, or name one with --data or --server",
        );
        let half = data(Some("https://127.0.0.1:1"), None, false);
        check(admin(Some(half.path()), None, None), "give the admin token with --admin-token");
        check(admin(None, Some("hub:9243"), None), "expected the form https://hub.example.com:9243");
        check(admin(None, Some("https://user@hub"), None), "expected the form https://hub.example.com:9243");
        check(admin(None, Some("https://hub/path"), None), "expected the form https://hub.example.com:9243");
        fs::write(half.path().join(CERTIFICATE_FILE), "nonsense").expect("it can be written");
        check(admin(Some(half.path()), None, None), "cannot read certificates from");
    }
}

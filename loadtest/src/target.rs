//! The hub under test: in this process, started as a child process, or already running.

use crate::{args::TargetArgs, meter::Meter};
use gatecast::{Config, Hub, config::Tls};
use rustix::process::{Pid, Signal, kill_process};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// In this time a hub that is stopped has ended; its drain has no window. After it, it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How a hub is reached.
pub struct Endpoint {
    /// Its URL, such as `https://127.0.0.1:9243`.
    pub url: String,
    /// Its socket address.
    pub addr: SocketAddr,
    /// Value of the `Host` field.
    pub host: String,
    /// The name in its certificate.
    pub name: ServerName<'static>,
    /// The TLS configuration; `None` for plain text.
    pub tls: Option<ClientConfig>,
    /// The trusted certificates, if they are not the public roots.
    pub trusted: Option<Vec<CertificateDer<'static>>>,
    /// The admin token.
    pub admin_token: String,
}

/// The hub under test.
pub struct Target {
    /// How it is reached.
    pub endpoint: Endpoint,
    /// Measures its resources.
    pub meter: Meter,
    /// A description of the hub, for people.
    pub what: String,
    /// Whether the gateways of the run are left there. True for a hub that is started here, whose data is deleted
    /// anyway.
    pub is_kept: bool,
    /// Keeps a hub that is started here running.
    pub running: Running,
}

/// Owns a hub that is started here; dropping it stops the hub and deletes its data.
#[derive(Default)]
pub struct Running {
    hub: Option<Hub>,
    child: Option<Child>,
    _data: Option<TempDir>,
}

impl Target {
    /// Starts a hub that allows this many connections, or finds the running one.
    ///
    /// # Errors
    /// The hub cannot be started, or its address or certificates are invalid.
    pub fn open(args: &TargetArgs, connections: usize) -> Result<Self, String> {
        match (&args.server, &args.spawn) {
            (Some(url), _) => Self::elsewhere(args, url),
            (None, Some(program)) => Self::spawn(args, program, connections),
            (None, None) => Self::here(args, connections),
        }
    }

    fn here(args: &TargetArgs, connections: usize) -> Result<Self, String> {
        let data = data_dir()?;
        let cores = args.shards();
        // No rate limit, because it would stop a storm; no drain window, because nobody waits for the
        // end.
        let config = Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: data.path().to_owned(),
            cores: Some(cores),
            connections_max: connections,
            rate_per_minute: 0,
            drain_window: std::time::Duration::ZERO,
            tls: if args.plain { Tls::Off } else { Tls::SelfSigned },
            ..Config::default()
        };
        let hub = Hub::start(config.clone()).map_err(|error| error.to_string())?;
        let endpoint = Endpoint::new(&config.url(hub.addr()), hub.admin_token(), Some(&data.path().join("cert.pem")))?;
        let what =
            format!("a hub in this process with {cores} shard(s): it shares memory and cores with the generator");
        Ok(Self {
            endpoint,
            meter: Meter::Here,
            what,
            is_kept: true,
            running: Running { hub: Some(hub), child: None, _data: Some(data) },
        })
    }

    fn spawn(args: &TargetArgs, program: &Path, connections: usize) -> Result<Self, String> {
        let data = data_dir()?;
        let cores = args.shards();
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--rate-limit-per-minute", "0", "--set", "drain.window=0s"]);
        command.args(["--max-connections", &connections.to_string(), "--cores", &cores.to_string()]);
        // Without a log: it has a line for each failed delivery, and slow connections cause thousands.
        command.args(["--tls", if args.plain { "off" } else { "self-signed" }, "--set", "log.filter=off", "--data"]);
        command.arg(data.path()).stdout(Stdio::piped());
        let shown = program.display();
        let mut child = command.spawn().map_err(|error| format!("cannot start {shown}: {error}"))?;
        // `serve` prints its address once it accepts connections, so nothing has to be tried again.
        let mut line = String::new();
        let out = child.stdout.take().ok_or("the child process has no standard output")?;
        BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
        let pid = child.id();
        let admin_token = data.path().join("admin-token");
        let ca = data.path().join("cert.pem");
        // Before anything below can fail: dropping it kills the child.
        let running = Running { hub: None, child: Some(child), _data: Some(data) };
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with("http"))
            .ok_or(format!("{shown} did not print its address: expected a line with http:// or https://"))?;
        let token = read(&admin_token)?;
        let endpoint = Endpoint::new(url, token.trim(), Some(&ca))?;
        let what = format!("{shown} with {cores} shard(s)");
        let meter = Meter::Process(pid);
        Ok(Self { endpoint, meter, what, is_kept: true, running })
    }

    fn elsewhere(args: &TargetArgs, url: &str) -> Result<Self, String> {
        let token = args.admin_token.as_deref().ok_or("--server needs --admin-token")?;
        let endpoint = Endpoint::new(url, token, args.ca.as_deref())?;
        let meter = args.pid.map_or(Meter::Nothing, Meter::Process);
        Ok(Self { endpoint, meter, what: url.to_owned(), is_kept: args.keep, running: Running::default() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.drain();
            // An error at its end does not change what was measured.
            let _ = hub.join();
        }
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

/// Ends a hub as an operator does, by SIGTERM: a build that counts how often its code runs writes that down at its end.
fn end(child: &mut Child) {
    // An id that is none, or a process that has ended by itself, leaves only the wait.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let begun = Instant::now();
    while begun.elapsed() < ENDS_WITHIN {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

impl Endpoint {
    fn new(url: &str, admin_token: &str, ca: Option<&Path>) -> Result<Self, String> {
        let url = url.trim_end_matches('/');
        let (scheme, host) =
            url.split_once("://").ok_or_else(|| format!("invalid URL {url}: expected https://HOST:PORT"))?;
        let port = if scheme == "https" { 443 } else { 80 };
        let addr = host.to_socket_addrs().or_else(|_| (host, port).to_socket_addrs());
        let addr = addr.ok().and_then(|mut found| found.next()).ok_or_else(|| format!("cannot resolve {host}"))?;
        // A certificate names an IPv6 address without the brackets of the URL.
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let server =
            ServerName::try_from(name.to_owned()).map_err(|error| format!("invalid host name {name}: {error}"))?;
        let is_plain = scheme == "http";
        let trusted = ca.filter(|_| !is_plain).map(certificates).transpose()?;
        let tls = if is_plain { None } else { Some(client_config(trusted.as_deref())?) };
        let (url, host, admin_token) = (url.to_owned(), host.to_owned(), admin_token.to_owned());
        Ok(Self { url, addr, host, name: server, tls, trusted, admin_token })
    }

    /// Whether each connection can come from an address of its own: all of 127.0.0.0/8 is local.
    pub fn is_loopback(&self) -> bool {
        self.addr.ip().is_loopback() && self.addr.is_ipv4()
    }
}

impl TargetArgs {
    /// Number of shards of a hub that is started here; by default one core is left to the generator.
    pub fn shards(&self) -> u16 {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        self.cores.unwrap_or(u16::try_from(cores.saturating_sub(1).max(1)).unwrap_or(u16::MAX))
    }
}

fn client_config(trusted: Option<&[CertificateDer<'static>]>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match trusted {
        Some(trusted) => drop(roots.add_parsable_certificates(trusted.iter().cloned())),
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    // Every connection makes a full handshake, unless the scenario asks for resumption.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn certificates(ca: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = ca.display();
    let found = CertificateDer::pem_file_iter(ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    found.map_err(|error| format!("cannot read certificates from {shown}: {error}"))
}

fn data_dir() -> Result<TempDir, String> {
    TempDir::with_prefix("gatecast-loadtest-")
        .map_err(|error| format!("cannot create a directory for the hub's data: {error}"))
}

fn read(path: &PathBuf) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_address_and_host() {
        let endpoint = Endpoint::new("https://127.0.0.1:9243/", "t", None).unwrap();
        assert_eq!((endpoint.addr.port(), endpoint.host.as_str()), (9243, "127.0.0.1:9243"));
        assert!(endpoint.is_loopback() && endpoint.tls.is_some());
        assert!(Endpoint::new("http://127.0.0.1:80", "t", None).unwrap().tls.is_none());
        assert!(Endpoint::new("127.0.0.1", "t", None).is_err());
    }
}

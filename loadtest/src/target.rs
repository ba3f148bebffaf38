//! The hub under load: one in this process, one that is started, or one that runs somewhere.

use crate::{args::TargetArgs, meter::Meter};
use gatecast::{Config, Hub, config::Tls};
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
};
use tempfile::TempDir;

/// How a hub is reached.
pub struct Endpoint {
    /// `https://127.0.0.1:9243`.
    pub url: String,
    /// Its address.
    pub addr: SocketAddr,
    /// `Host` of a request.
    pub host: String,
    /// The name in its certificate.
    pub name: ServerName<'static>,
    /// How it is trusted; `None` is plain text.
    pub tls: Option<ClientConfig>,
    /// The certificates behind that, where they are not the public ones.
    pub trusted: Option<Vec<CertificateDer<'static>>>,
    /// The platform's token.
    pub admin_token: String,
}

/// A hub under load.
pub struct Target {
    /// How it is reached.
    pub endpoint: Endpoint,
    /// What it uses.
    pub meter: Meter,
    /// What it is, for people.
    pub what: String,
    /// Whether what was made there is to be taken away again.
    pub is_kept: bool,
    /// What ends with it.
    pub running: Running,
}

/// What has to live as long as the hub, and ends with it.
#[derive(Default)]
pub struct Running {
    hub: Option<Hub>,
    child: Option<Child>,
    _data: Option<TempDir>,
}

impl Target {
    /// Starts or finds the hub, made for so many connections.
    ///
    /// # Errors
    /// What stands in the way.
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
        // The log has a line for each failed delivery, and slow gateways make many.
        command.args(["--tls", if args.plain { "off" } else { "self-signed" }, "--set", "log.filter=off", "--data"]);
        command.arg(data.path()).stdout(Stdio::piped());
        let shown = program.display();
        let mut child = command.spawn().map_err(|error| format!("{shown} cannot be started: {error}"))?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("its output was asked for")?;
        BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
        let pid = child.id();
        let admin_token = data.path().join("admin-token");
        let ca = data.path().join("cert.pem");
        let running = Running { hub: None, child: Some(child), _data: Some(data) };
        let url =
            line.split_whitespace().find(|word| word.starts_with("http")).ok_or(format!("{shown} does not serve"))?;
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
            // Its end is not what is measured.
            let _ = hub.join();
        }
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Endpoint {
    fn new(url: &str, admin_token: &str, ca: Option<&Path>) -> Result<Self, String> {
        let url = url.trim_end_matches('/');
        let (scheme, host) = url.split_once("://").ok_or_else(|| format!("{url} is no address: https://HOST:PORT"))?;
        let port = if scheme == "https" { 443 } else { 80 };
        let addr = host.to_socket_addrs().or_else(|_| (host, port).to_socket_addrs());
        let addr = addr.ok().and_then(|mut found| found.next()).ok_or_else(|| format!("{host} is not known"))?;
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let server = ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))?;
        let is_plain = scheme == "http";
        let trusted = ca.filter(|_| !is_plain).map(certificates).transpose()?;
        let tls = if is_plain { None } else { Some(client_config(trusted.as_deref())?) };
        let (url, host, admin_token) = (url.to_owned(), host.to_owned(), admin_token.to_owned());
        Ok(Self { url, addr, host, name: server, tls, trusted, admin_token })
    }

    /// Whether connections can be given addresses of their own.
    pub fn is_loopback(&self) -> bool {
        self.addr.ip().is_loopback() && self.addr.is_ipv4()
    }
}

impl TargetArgs {
    /// Shards of a hub that is started here: by default one core is left to the generator.
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
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn certificates(ca: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = ca.display();
    let found = CertificateDer::pem_file_iter(ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    found.map_err(|error| format!("{shown} holds no certificates: {error}"))
}

fn data_dir() -> Result<TempDir, String> {
    TempDir::with_prefix("gatecast-loadtest-").map_err(|error| format!("no directory for the hub's data: {error}"))
}

fn read(path: &PathBuf) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let endpoint = Endpoint::new("https://127.0.0.1:9243/", "t", None).unwrap();
        assert_eq!((endpoint.addr.port(), endpoint.host.as_str()), (9243, "127.0.0.1:9243"));
        assert!(endpoint.is_loopback() && endpoint.tls.is_some());
        assert!(Endpoint::new("http://127.0.0.1:80", "t", None).unwrap().tls.is_none());
        assert!(Endpoint::new("127.0.0.1", "t", None).is_err());
    }
}

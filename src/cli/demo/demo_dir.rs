//! The demo's data directory, which is deleted at its end, and its configuration.

use super::super::Failure;
use crate::Config;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Short, because the user who ends the demo waits for it.
const DRAIN_WINDOW: Duration = Duration::from_millis(500);

/// A new directory that only this user can read. It is deleted when this value is dropped.
pub(super) struct DemoDir {
    dir: PathBuf,
}

impl DemoDir {
    /// Creates the directory below the system's directory for temporary files.
    pub(super) fn new() -> Result<Self, Failure> {
        let random = getrandom::u32()
            .map_err(|error| Failure::Failed(format!("the system provides no random numbers: {error}")))?;
        let dir = std::env::temp_dir().join(format!("gatecast-demo-{random:08x}"));
        // `create` fails if the name exists, so that nobody can prepare a directory of their own for the admin token.
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => Ok(Self { dir }),
            Err(error) => Err(Failure::Failed(format!("cannot create {}: {error}", dir.display()))),
        }
    }

    /// The path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// The default configuration on a loopback address, and whether the default port is free. If not, the hub takes
    /// another.
    pub(super) fn config(&self) -> (Config, bool) {
        let defaults = Config::default();
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, defaults.listen.port()));
        // Binding for a moment leaves no TIME_WAIT behind, because nobody has connected: the hub can bind the port
        // next.
        let free = TcpListener::bind(wanted).is_ok();
        let listen = if free { wanted } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        (Config { data: self.dir.clone(), listen, drain_window: DRAIN_WINDOW, ..defaults }, free)
    }
}

impl Drop for DemoDir {
    fn drop(&mut self) {
        // An error is ignored: the system cleans up temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_is_new_and_deleted_on_drop() {
        let [first, second] = [(); 2].map(|()| DemoDir::new().expect("the directory can be made"));
        assert_ne!(first.path(), second.path());
        let (config, _) = first.config();
        assert_eq!(config.data, first.path());
        assert!(config.listen.ip().is_loopback());
        let path = first.path().to_owned();
        fs::write(path.join("file"), "x").expect("it can be written");
        drop(first);
        assert!(!path.exists());
    }
}

//! Where the demo runs: a directory of its own that goes with it, and the default port where that is free.

use super::super::Failure;
use crate::Config;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Short: whoever ends a demo wants it to end.
const DRAIN_WINDOW: Duration = Duration::from_millis(500);

/// A new directory that only this user can read; it is removed when this is dropped.
pub(super) struct DemoDir {
    dir: PathBuf,
}

impl DemoDir {
    /// Makes one under the system's directory for temporary files.
    pub(super) fn new() -> Result<Self, Failure> {
        let random = getrandom::u32().map_err(|error| Failure::Failed(format!("no random numbers: {error}")))?;
        let dir = std::env::temp_dir().join(format!("gatecast-demo-{random:08x}"));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => Ok(Self { dir }),
            Err(error) => Err(Failure::Failed(format!("{} cannot be made: {error}", dir.display()))),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// The defaults, on this machine alone; and whether the default port was free.
    pub(super) fn config(&self) -> (Config, bool) {
        let defaults = Config::default();
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, defaults.listen.port()));
        // Bound for a moment only, by which the port is not used up: nobody has connected to it.
        let free = TcpListener::bind(wanted).is_ok();
        let listen = if free { wanted } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        (Config { data: self.dir.clone(), listen, drain_window: DRAIN_WINDOW, ..defaults }, free)
    }
}

impl Drop for DemoDir {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans up temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_its_own_and_goes_with_it() {
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

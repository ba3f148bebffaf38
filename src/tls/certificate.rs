//! The certificate in use, and its reload. A reload affects new connections only; open ones keep their TLS session.

use super::{TlsError, load, self_signed::self_signed};
use crate::config::{Config, Tls};
use rustls::{ServerConfig, server::ProducesTickets};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// The files of certificate and key, and the configuration last loaded from them.
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    ticketer: Arc<dyn ProducesTickets>,
    current: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// Which files certificate and key were at the last read, whether it succeeded or not; `None` for a file whose metadata
    /// could not be read.
    files: [Option<FileState>; 2],
    /// The error of the last read, if it failed.
    error: Option<String>,
}

/// Time between two checks. Polling also notices files on network file systems and mounted secrets that are replaced by
/// a symbolic link, where inotify does not.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

impl Certificate {
    /// Loads the configured certificate, or creates a self-signed one. `None` if TLS is off.
    ///
    /// # Errors
    /// If certificate or key cannot be created, read or used.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, TlsError> {
        let (cert, key) = match &config.tls {
            Tls::Off => {
                tracing::warn!(
                    "TLS is off: tokens and events are readable on the network unless a proxy in front terminates TLS"
                );
                return Ok(None);
            }
            Tls::Files { cert, key } => (cert.clone(), key.clone()),
            Tls::SelfSigned => self_signed(&config.data)?,
        };
        if matches!(config.tls, Tls::SelfSigned) {
            tracing::warn!(certificate = %cert.display(), "no certificate is configured: using a self-signed one");
        }
        let ticketer = load::ticketer()?;
        let files = file_states(&cert, &key);
        let config = load::server_config(&cert, &key, Arc::clone(&ticketer))?;
        Ok(Some(Self { cert, key, ticketer, current: Mutex::new(Loaded { config, files, error: None }) }))
    }

    /// The configuration for new connections.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().config)
    }

    /// Reads the files again. If they cannot be used, logs an ERROR and returns `None`; the old certificate stays in
    /// use.
    pub(crate) fn reload(&self) -> Option<Arc<ServerConfig>> {
        self.load(None)
    }

    /// Reads the files again if they have changed or the last read failed. Returns the new configuration, if there is
    /// one.
    pub(crate) fn reload_if_changed(&self) -> Option<Arc<ServerConfig>> {
        let (is_changed, error) = {
            let loaded = self.lock();
            (file_states(&self.cert, &self.key) != loaded.files, loaded.error.clone())
        };
        match (is_changed, error) {
            (true, _) => self.reload(),
            // A read can fail for a reason outside the files, such as a lack of descriptors, so it is tried again
            // although they have not changed. The same error is logged only once.
            (false, Some(logged)) => self.load(Some(&logged)),
            (false, None) => None,
        }
    }

    /// Reads the files. Does not log an error that is the same as `logged`.
    fn load(&self, logged: Option<&str>) -> Option<Arc<ServerConfig>> {
        // The state is read before the contents: if a file changes in between, the next check sees another state and reads
        // it again.
        let files = file_states(&self.cert, &self.key);
        match load::server_config(&self.cert, &self.key, Arc::clone(&self.ticketer)) {
            Ok(config) => {
                tracing::info!(certificate = %self.cert.display(), "certificate loaded");
                *self.lock() = Loaded { config: Arc::clone(&config), files, error: None };
                Some(config)
            }
            Err(error) => {
                let why = error.to_string();
                if logged != Some(&why) {
                    tracing::error!(
                        "{why}; the old certificate stays in use, and the files are read again every two seconds"
                    );
                }
                let mut loaded = self.lock();
                (loaded.files, loaded.error) = (files, Some(why));
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Loaded> {
        // The only change under the lock is an assignment of whole values, so a panic elsewhere cannot leave them half
        // made.
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Starts a thread that calls `check` every two seconds until `ended` returns true. `check` calls
/// [`Certificate::reload_if_changed`].
///
/// # Errors
/// If the system cannot start a thread.
pub(crate) fn watch(
    ended: impl Fn() -> bool + Send + 'static,
    check: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let watch = move || {
        while !ended() {
            thread::sleep(CHECK_INTERVAL);
            check();
        }
    };
    thread::Builder::new().name("certificate".to_owned()).spawn(watch).map(drop)
}

/// What changes if a file is written or another one takes its place. The modification time alone does not: files from an
/// image or an archive often have the same one, and a symbolic link can be changed from one to the other.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn file_states(cert: &PathBuf, key: &PathBuf) -> [Option<FileState>; 2] {
    let state = |metadata: fs::Metadata| FileState {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    [cert, key].map(|path| fs::metadata(path).map(state).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(paths: &(PathBuf, PathBuf)) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&paths.0, made.cert.pem()).unwrap();
        fs::write(&paths.1, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_failed_reload_is_retried_although_the_files_do_not_change() {
        let dir = tempfile::tempdir().unwrap();
        let paths = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        write(&paths);
        let (cert, key) = paths.clone();
        let config = Config { tls: Tls::Files { cert, key }, ..Config::default() };
        let certificate = Certificate::of(&config).unwrap().unwrap();
        let first = certificate.current();
        assert!(certificate.reload_if_changed().is_none(), "nothing has changed");

        fs::write(&paths.1, "no key").unwrap();
        assert!(certificate.reload_if_changed().is_none());
        assert!(Arc::ptr_eq(&certificate.current(), &first), "the old one stays in use");

        write(&paths);
        // As if they were the files of the last read.
        certificate.lock().files = file_states(&paths.0, &paths.1);
        assert!(certificate.reload_if_changed().is_some(), "it is read again");
        assert!(certificate.reload_if_changed().is_none(), "it is not read again after a success");
    }

    #[test]
    fn a_link_to_files_of_the_same_time_and_size_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        let version = |name: &str| {
            let inner = dir.path().join(name);
            fs::create_dir(&inner).unwrap();
            let paths = (inner.join("c.pem"), inner.join("k.pem"));
            write(&paths);
            let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            for path in [&paths.0, &paths.1] {
                fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            }
            inner
        };
        let [old, new] = ["v1", "v2"].map(version);
        std::os::unix::fs::symlink(old, &link).unwrap();
        let config =
            Config { tls: Tls::Files { cert: link.join("c.pem"), key: link.join("k.pem") }, ..Config::default() };
        let certificate = Certificate::of(&config).unwrap().unwrap();
        assert!(certificate.reload_if_changed().is_none(), "nothing has changed");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(new, &link).unwrap();
        assert!(certificate.reload_if_changed().is_some(), "the link names another file");
    }
}

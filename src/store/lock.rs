//! The lock of a data directory, which only one hub can use. The kernel releases it however the process ends.

use super::{StoreError, disk};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
};

const FILE_NAME: &str = "lock";

/// The lock; released on drop.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock without waiting, and writes this process's id into the lock file, for the error of a second hub.
    ///
    /// # Errors
    /// If another hub holds the lock, or the file cannot be opened, locked or written.
    pub(super) fn take(dir: &Path) -> Result<DirLock, StoreError> {
        let path = dir.join(FILE_NAME);
        let failed = |error: io::Error| StoreError::Lock { path: path.clone(), why: error.to_string() };
        disk::make_dir(dir).map_err(|error| StoreError::Directory { path: dir.to_owned(), why: error.to_string() })?;
        // Not truncated when it is opened: the file contains the id of the hub that may hold the lock. It is never
        // removed either, or two hubs could lock two files of the same name.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(used_by_another(dir, &mut file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", process::id()));
        match written {
            // The id is only for a message. A full disk must not keep an operator from making room on it.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            written => written.map_err(failed)?,
        }
        Ok(DirLock { _file: file })
    }
}

fn used_by_another(dir: &Path, file: &mut File) -> StoreError {
    let mut text = String::new();
    let pid = file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    StoreError::InUse { path: dir.to_owned(), pid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_hub() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let held = DirLock::take(&data).unwrap();
        let refusal = DirLock::take(&data).unwrap_err().to_string();
        assert!(refusal.contains(&format!("is used by another hub (pid {})", process::id())), "{refusal}");
        drop(held);
        DirLock::take(&data).unwrap();
    }

    #[test]
    fn a_lock_without_a_readable_pid_still_excludes_a_second_hub() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DirLock::take(dir.path()).unwrap();
        std::fs::write(dir.path().join(FILE_NAME), [0xff; 100]).unwrap();
        assert!(DirLock::take(dir.path()).unwrap_err().to_string().contains("pid unknown"));
    }
}

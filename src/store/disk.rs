//! Writes files that only the hub's user can read, and that after a crash exist whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

/// Creates a directory (mode 0700) and its parents. An existing one is not changed.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The directory that holds `path`.
pub(super) fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `path` with `suffix` after its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Creates an empty file of mode 0600, which must not exist yet.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    // The mode is given at creation: a file that is made private later is readable for a moment.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Sets the mode of a file to 0600 if others have access to it. A missing file is not an error.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 == 0 => Ok(()),
        Ok(_) => fs::set_permissions(path, Permissions::from_mode(0o600)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a file of mode 0600. After a crash it has the new content, or is as it was before.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = beside(path, ".new");
    remove(&unfinished)?;
    create_private(&unfinished)?.write_all(content)?;
    publish(&unfinished, path)
}

/// Renames a finished file to `path`, durably.
pub(super) fn publish(unfinished: &Path, path: &Path) -> io::Result<()> {
    // First the content, then the name, then the directory that holds the name. A rename that reaches the disk before
    // the content would leave an empty file after a power loss.
    File::open(unfinished)?.sync_all()?;
    fs::rename(unfinished, path)?;
    File::open(dir_of(path))?.sync_all()
}

/// Removes a file. A missing file is not an error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a file, durably. A missing file is not an error.
pub(super) fn remove_durably(path: &Path) -> io::Result<()> {
    remove(path)?;
    File::open(dir_of(path))?.sync_all()
}

/// Gives files to the owner of another one, where root has created them. Missing files are left out.
pub(super) fn give_to_owner_of(model: &Path, files: &[PathBuf]) -> io::Result<()> {
    let owner = fs::metadata(model)?;
    for file in files {
        match fs::metadata(file) {
            Ok(found) if (found.uid(), found.gid()) == (owner.uid(), owner.gid()) => {}
            Ok(_) => chown(file, Some(owner.uid()), Some(owner.gid()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_files_are_whole_and_have_mode_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        make_dir(dir_of(&path)).unwrap();
        assert_eq!(mode(dir_of(&path)), 0o700);

        fs::write(beside(&path, ".new"), "left by a crash").unwrap();
        write_private(&path, b"content").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (b"content".as_slice(), 0o600));
        assert!(!beside(&path, ".new").exists());
    }

    #[test]
    fn open_modes_are_tightened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        make_private(&path).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        make_private(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_bare_name_is_in_the_current_directory() {
        assert_eq!(dir_of(Path::new("file")), Path::new("."));
    }
}

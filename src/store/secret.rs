//! Creates the tokens of gateways, and reads or creates the admin token's file.

use super::disk;
use crate::{limits::ADMIN_TOKEN_BYTES, model::KeyHash};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A new token: 32 random bytes in base64url without padding (RFC 4648 section 5). Wiped when dropped, and never
/// printed.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Creates a token from random bytes of the operating system.
    ///
    /// # Errors
    /// If the system returns no random bytes.
    pub fn random() -> Result<Secret, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Secret(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()))))
    }

    /// The token's text. It is shown once, in the answer that creates it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The token's hash, which is all that the store keeps.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why the admin token cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AdminTokenError {
    /// The system returned no random bytes for a new token.
    Random {
        /// The system's error.
        why: String,
    },
    /// The new token cannot be written.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
    /// The file exists and cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
    /// The file's content is not a valid admin token.
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for AdminTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random { why } => {
                write!(f, "cannot create an admin token: the system returned no random bytes: {why}")
            }
            Self::Unwritable { path, why } => write!(f, "{} cannot be written: {why}", path.display()),
            Self::Unreadable { path, why } => write!(f, "{} cannot be read: {why}", path.display()),
            Self::Malformed { path } => write!(
                f,
                "{} is not an admin token: expected one line of {} to {} visible ASCII characters; write one, or \
                 remove the file and the hub creates one",
                path.display(),
                ADMIN_TOKEN_BYTES.start(),
                ADMIN_TOKEN_BYTES.end()
            ),
        }
    }
}

impl std::error::Error for AdminTokenError {}

/// Reads `DIR/admin-token`, or creates it with mode 0600, and the directory with mode 0700. One line break at the end
/// does not count as part of the token. The caller must have opened the store in `dir` before: its lock keeps another
/// hub from creating the file at the same time.
///
/// # Errors
/// If the file cannot be read, created or used.
pub fn admin_token(dir: &Path) -> Result<String, AdminTokenError> {
    let path = dir.join("admin-token");
    match File::open(&path) {
        Ok(file) => read(&path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = Secret::random().map_err(|error| AdminTokenError::Random { why: error.to_string() })?;
            disk::make_dir(dir)
                .and_then(|()| disk::write_private(&path, format!("{}\n", secret.expose()).as_bytes()))
                .map_err(|error| AdminTokenError::Unwritable { path: path.clone(), why: error.to_string() })?;
            Ok(secret.expose().to_owned())
        }
        Err(error) => Err(unreadable(&path, &error)),
    }
}

fn read(path: &Path, file: File) -> Result<String, AdminTokenError> {
    let token_bytes_max = ADMIN_TOKEN_BYTES.end();
    // A warning, not an error: the operator's deployment may mount the file with a mode that it cannot choose.
    if file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "the admin token's file is accessible to other users; set its mode to 0600");
    }
    // Room for the line break and one byte more, which shows that the file is too long. The capacity is allocated at
    // once, because a vector that grows leaves copies of the token in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(token_bytes_max + 3));
    file.take(*token_bytes_max as u64 + 3).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    match text {
        Some(token) if ADMIN_TOKEN_BYTES.contains(&token.len()) => {
            if token.len() < CREATED_TOKEN_BYTES {
                let (bytes, created) = (token.len(), CREATED_TOKEN_BYTES);
                tracing::warn!(path = %path.display(), bytes, "the admin token is shorter than the {created} characters of a token that the hub creates, and easier to guess");
            }
            Ok(token.to_owned())
        }
        _ => Err(AdminTokenError::Malformed { path: path.to_owned() }),
    }
}

/// The length of a [`Secret`]: 32 bytes in base64url. A shorter admin token was written by the operator.
const CREATED_TOKEN_BYTES: usize = 43;

fn unreadable(path: &Path, error: &io::Error) -> AdminTokenError {
    AdminTokenError::Unreadable { path: path.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn secrets_are_unique_and_debug_hides_them() {
        let (a, b) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(a.expose(), b.expose());
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(a.expose()).unwrap().len(), 32);
        assert_eq!(a.hash(), KeyHash::of(a.expose().as_bytes()));
        assert_eq!(format!("{a:?}"), "Secret(…)");
    }

    #[test]
    fn an_admin_token_is_created_once_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let made = admin_token(&data).unwrap();
        assert_eq!(made.len(), CREATED_TOKEN_BYTES);
        assert_eq!(admin_token(&data), Ok(made));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join("admin-token"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_admin_token_is_one_line_of_visible_ascii() {
        let dir = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expected: Option<&str>| {
            fs::write(dir.path().join("admin-token"), content).unwrap();
            match expected {
                Some(token) => assert_eq!(admin_token(dir.path()).as_deref(), Ok(token)),
                None => {
                    let refusal = admin_token(dir.path()).unwrap_err().to_string();
                    assert!(refusal.contains("is not an admin token") && refusal.contains("remove the file"));
                }
            }
        };
        let token = "an-operators-own/token+22=";
        check(token.as_bytes(), Some(token));
        check(format!("{token}\n").as_bytes(), Some(token));
        check(format!("{token}\r\n").as_bytes(), Some(token));
        check("x".repeat(512).as_bytes(), Some(&"x".repeat(512)));
        check(format!("{}\r\n", "x".repeat(512)).as_bytes(), Some(&"x".repeat(512)));
        check("x".repeat(513).as_bytes(), None);
        check(&[b'x'; 1 << 20], None);
        check(b"", None);
        check(b"\n", None);
        check(b"too-short", None);
        check(format!("{token} {token}").as_bytes(), None);
        check(format!("{token}\n\n").as_bytes(), None);
        check(&[0; 32], None);
        check("ä".repeat(20).as_bytes(), None);
        check(&[0xff; 32], None);
    }

    #[test]
    fn an_unreadable_admin_token_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("admin-token")).unwrap();
        assert!(admin_token(dir.path()).unwrap_err().to_string().contains("cannot be read"));
    }
}

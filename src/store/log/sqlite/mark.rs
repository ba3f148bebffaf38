//! The mark: a small file beside the log that tells at the next start whether events of the log may have been lost.
//!
//! It names the number of the log's last commit. A log that has fewer lost its end, or is an older copy; then its
//! offsets would be given to other events, so it gets a new epoch. A power failure may lose both; so the mark also
//! names the boot of the machine, and whether the log was synced.

use super::{settings::LogSync, sum::Sum};
use crate::store::disk;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

const MAGIC: [u8; 8] = *b"GCSTMRK1";
const BYTES: usize = 64;

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The boot of the machine in which it was written.
    pub boot: [u8; 16],
    /// The number of the log's last commit.
    pub commits: u64,
    /// The inode of the log's file.
    pub inode: u64,
    /// Whether the log was synced after its last commit.
    pub clean: bool,
    /// Whether each commit was synced.
    pub sync: LogSync,
}

impl Mark {
    /// Why a log that was found beside this mark may lack commits; `None` if it has all.
    pub fn lost(&self, commits: u64, inode: u64, boot: [u8; 16]) -> Option<&'static str> {
        if commits < self.commits {
            return Some("its end is missing");
        }
        if inode != self.inode {
            return Some("its file is another one");
        }
        if self.sync == LogSync::Process && !self.clean && boot != self.boot {
            return Some("the machine was restarted before it was synced");
        }
        None
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.boot);
        bytes[24..32].copy_from_slice(&self.commits.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.inode.to_le_bytes());
        bytes[40] = u8::from(self.clean);
        bytes[41] = u8::from(self.sync == LogSync::Power);
        let sum = Sum::new(0).bytes(&bytes[..48]).end();
        bytes[48..56].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let sum = Sum::new(0).bytes(bytes.get(..48)?).end();
        if bytes.len() != BYTES || bytes[..8] != MAGIC || word(48)? != sum.cast_unsigned() {
            return None;
        }
        Some(Self {
            boot: bytes[8..24].try_into().ok()?,
            commits: word(24)?,
            inode: word(32)?,
            clean: bytes[40] == 1,
            sync: if bytes[41] == 1 { LogSync::Power } else { LogSync::Process },
        })
    }
}

/// Reads a mark; `None` if there is none, or it is damaged.
pub(super) fn read(path: &Path) -> io::Result<Option<Mark>> {
    let mut bytes = Vec::with_capacity(BYTES);
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?.take(BYTES as u64 + 1).read_to_end(&mut bytes)?,
    };
    Ok(Mark::decode(&bytes))
}

/// The file of a mark, open for writing.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    /// What was written last.
    pub mark: Mark,
}

impl MarkFile {
    /// Writes a mark, durably.
    pub fn create(path: &Path, mark: Mark) -> io::Result<Self> {
        disk::make_private(path)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.set_len(BYTES as u64)?;
        let this = Self { file, mark };
        this.sync()?;
        File::open(disk::dir_of(path))?.sync_all()?;
        Ok(this)
    }

    /// Notes a commit. Not synced: the kernel keeps it if only the process ends.
    pub fn note(&mut self, commits: u64) -> io::Result<()> {
        self.mark.commits = commits;
        self.write()
    }

    /// Notes that the log was synced.
    pub fn end(&mut self) -> io::Result<()> {
        self.mark.clean = true;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.write()?;
        self.file.sync_all()
    }

    fn write(&self) -> io::Result<()> {
        // One write within one sector: it is there whole or not at all.
        self.file.write_all_at(&self.mark.encode(), 0)
    }
}

/// The kernel's name for this boot of the machine.
pub(super) fn boot() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let parsed = uuid::Uuid::try_parse(text.trim());
    parsed.map(uuid::Uuid::into_bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { boot: [7; 16], commits: 100, inode: 5, clean: false, sync: LogSync::Process };

    #[test]
    fn a_mark_is_read_as_written_and_damage_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        assert_eq!(read(&path).unwrap(), None);
        let mut file = MarkFile::create(&path, MARK).unwrap();
        file.note(101).unwrap();
        assert_eq!(read(&path).unwrap(), Some(Mark { commits: 101, ..MARK }));
        file.end().unwrap();
        assert_eq!(read(&path).unwrap(), Some(Mark { commits: 101, clean: true, ..MARK }));

        let whole = fs::read(&path).unwrap();
        for bit in 0..56 * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            assert_eq!(read(&path).unwrap(), None, "bit {bit}");
        }
        fs::write(&path, &whole[..63]).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn a_log_that_may_lack_commits_is_told_apart() {
        let check = |mark: Mark, commits, inode, boot: u8, lost: bool| {
            assert_eq!(mark.lost(commits, inode, [boot; 16]).is_some(), lost, "{mark:?} {commits} {inode} {boot}");
        };
        check(MARK, 100, 5, 7, false);
        // A process that was killed between a commit and its note.
        check(MARK, 101, 5, 7, false);
        check(MARK, 99, 5, 7, true);
        check(MARK, 100, 6, 7, true);
        check(MARK, 100, 5, 8, true);
        check(Mark { clean: true, ..MARK }, 100, 5, 8, false);
        check(Mark { sync: LogSync::Power, ..MARK }, 100, 5, 8, false);
        check(Mark { sync: LogSync::Power, ..MARK }, 99, 5, 8, true);
    }
}

//! Why a hub does not start, and how a running one failed: one sentence each, with the remedy where there is one.

use crate::{
    limits::SHARDS_PER_CPU_MAX,
    model::ShardId,
    store::{AdminTokenError, StoreError},
    tls::TlsError,
};
use std::{fmt, net::SocketAddr, path::PathBuf};

/// Why a hub did not start. Nothing is left running then.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The processors that this process may run on cannot be listed.
    Processors {
        /// What the system says.
        why: String,
    },
    /// More cores are configured than make sense on this machine.
    TooManyCores {
        /// What is configured.
        cores: u16,
        /// What is there.
        processors: usize,
    },
    /// The store cannot be used.
    Store(StoreError),
    /// The admin token cannot be read or made.
    AdminToken(AdminTokenError),
    /// The certificate cannot be used.
    Certificate(TlsError),
    /// Another program listens on the address.
    AddressTaken(SocketAddr),
    /// The system does not let the hub listen there.
    Bind {
        /// On which address.
        address: SocketAddr,
        /// What the system says.
        why: String,
    },
    /// The system gives no file descriptors for the cores' doorbells.
    Descriptors {
        /// What it says.
        why: String,
    },
    /// The system gives no random numbers.
    Random {
        /// What it says.
        why: String,
    },
    /// A core's executor cannot be started.
    Executor {
        /// What the runtime says.
        why: String,
    },
    /// This user's locked memory is used up.
    LockedMemory,
    /// A shard ended before it was up.
    Shard {
        /// What the runtime says.
        why: String,
    },
    /// A shard was not up in time.
    TimedOut,
    /// The system gives no thread.
    Thread {
        /// What it says.
        why: String,
    },
    /// The file that tells client commands where the hub is cannot be written.
    AddressFile {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processors { why } => write!(f, "the processors cannot be listed: {why}"),
            Self::TooManyCores { cores, processors } => {
                write!(f, "cores = {cores} on {processors} processors: {SHARDS_PER_CPU_MAX} for each are the most")
            }
            Self::Store(error) => error.fmt(f),
            Self::AdminToken(error) => error.fmt(f),
            Self::Certificate(error) => error.fmt(f),
            Self::AddressTaken(address) => {
                write!(f, "{address} is taken by another program: stop that, or listen elsewhere")
            }
            Self::Bind { address, why } => write!(f, "cannot listen on {address}: {why}"),
            Self::Descriptors { why } => write!(f, "the system gives no file descriptors: {why}"),
            Self::Random { why } => write!(f, "the system gives no random numbers: {why}"),
            Self::Executor { why } => write!(f, "an executor cannot be started: {why}"),
            Self::LockedMemory => f.write_str(
                "a shard cannot begin: this user's locked memory is used up, perhaps by another hub; raise it \
                 (`ulimit -l`, LimitMEMLOCK=) or use fewer cores",
            ),
            Self::Shard { why } => {
                write!(f, "a shard cannot begin ({why}): `gatecast doctor` says what this machine lacks")
            }
            Self::TimedOut => f.write_str("a shard did not begin in time"),
            Self::Thread { why } => write!(f, "the system gives no thread: {why}"),
            Self::AddressFile { path, why } => write!(f, "{} cannot be written: {why}", path.display()),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AdminTokenError> for StartError {
    fn from(error: AdminTokenError) -> Self {
        Self::AdminToken(error)
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Certificate(error)
    }
}

/// How a running hub failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RunError {
    /// A core ended although nobody had told it to, or panicked in the drain. The log says why.
    CoreDied {
        /// Which.
        shard: ShardId,
    },
    /// These cores had not ended 5 s after the drain window; they are still running.
    CoresTimedOut {
        /// Which.
        shards: Vec<ShardId>,
    },
    /// The store was not closed 5 s after the drain window. What it has acknowledged is kept.
    StoreTimedOut,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoreDied { shard } => write!(f, "core {shard} died: the log says why"),
            Self::CoresTimedOut { shards } => {
                let shards: Vec<_> = shards.iter().map(ToString::to_string).collect();
                write!(f, "the hub did not end in time: core {} does not turn", shards.join(", "))
            }
            Self::StoreTimedOut => f.write_str("the store was not closed in time; what it acknowledged is kept"),
        }
    }
}

impl std::error::Error for RunError {}

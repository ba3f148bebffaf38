//! Errors of starting and running a hub. Each message is one sentence that says what is wrong and, if known, what to
//! do.

use crate::{
    limits::SHARDS_PER_CPU_MAX,
    model::ShardId,
    store::{AdminTokenError, StoreError},
    tls::TlsError,
};
use std::{fmt, net::SocketAddr, path::PathBuf};

/// Why a hub did not start. Nothing of it keeps running.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The processors that this process may run on cannot be listed.
    Processors {
        /// The system's error message.
        why: String,
    },
    /// More shards are configured than [`SHARDS_PER_CPU_MAX`] for each processor.
    TooManyCores {
        /// The configured number of shards.
        cores: u16,
        /// The number of processors that this process may run on.
        processors: usize,
    },
    /// The hub's bounds need more memory than there is.
    TooLittleMemory {
        /// Bytes that it needs.
        needed: usize,
        /// Bytes of the machine, or of the process's cgroup.
        available: usize,
    },
    /// The store cannot be opened.
    Store(StoreError),
    /// The admin token cannot be read or created.
    AdminToken(AdminTokenError),
    /// The TLS certificate cannot be used.
    Certificate(TlsError),
    /// Another program already listens on the address.
    AddressTaken(SocketAddr),
    /// The system refuses to let the hub listen on the address.
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error message.
        why: String,
    },
    /// The file descriptors with which cores wake each other cannot be created.
    Descriptors {
        /// The system's error message.
        why: String,
    },
    /// The system provides no random numbers.
    Random {
        /// The system's error message.
        why: String,
    },
    /// The executor of a core cannot be created.
    Executor {
        /// The runtime's error message.
        why: String,
    },
    /// The io_uring rings of a core exceed this user's limit of locked memory.
    LockedMemory,
    /// A core ended before it was ready.
    Shard {
        /// The runtime's error message.
        why: String,
    },
    /// A core was not ready within 10 s.
    TimedOut,
    /// A thread cannot be created.
    Thread {
        /// The system's error message.
        why: String,
    },
    /// The file in which client commands find the hub's address cannot be written.
    AddressFile {
        /// The file.
        path: PathBuf,
        /// The system's error message.
        why: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processors { why } => write!(f, "cannot list the processors of this machine: {why}"),
            Self::TooManyCores { cores, processors } => {
                let most = processors.saturating_mul(SHARDS_PER_CPU_MAX);
                write!(
                    f,
                    "invalid `cores` = {cores}: expected at most {most}, {SHARDS_PER_CPU_MAX} for each of {processors} processors"
                )
            }
            Self::TooLittleMemory { needed, available } => {
                let mib = |bytes: &usize| bytes / (1024 * 1024);
                write!(
                    f,
                    "too little memory: {} MiB, needed: {} MiB; allow this process more, use fewer cores, or lower \
                     `limits.max_connections`",
                    mib(available),
                    mib(needed) + 1
                )
            }
            Self::Store(error) => error.fmt(f),
            Self::AdminToken(error) => error.fmt(f),
            Self::Certificate(error) => error.fmt(f),
            Self::AddressTaken(address) => {
                write!(f, "{address} is in use by another program: stop it, or choose another address with --listen")
            }
            Self::Bind { address, why } => write!(f, "cannot listen on {address}: {why}"),
            Self::Descriptors { why } => write!(f, "cannot create file descriptors: {why}"),
            Self::Random { why } => write!(f, "the system provides no random numbers: {why}"),
            Self::Executor { why } => write!(f, "cannot start the executor of a core: {why}"),
            Self::LockedMemory => f.write_str(
                "cannot start a core: this user's limit of locked memory is reached, perhaps because of another hub; raise \
                 it (`ulimit -l`, LimitMEMLOCK=) or use fewer cores",
            ),
            Self::Shard { why } => {
                write!(f, "cannot start a core: {why}; run `gatecast doctor` to see what this machine lacks")
            }
            Self::TimedOut => f.write_str("a core was not ready within 10 s; check whether the machine is overloaded"),
            Self::Thread { why } => write!(f, "cannot create a thread: {why}"),
            Self::AddressFile { path, why } => write!(f, "cannot write {}: {why}", path.display()),
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

/// Why a running hub failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RunError {
    /// A core ended without being told to, or panicked during the drain. The log has the reason.
    CoreDied {
        /// The shard of the core.
        shard: ShardId,
    },
    /// These cores had not ended 5 s after the drain window; they are still running.
    CoresTimedOut {
        /// The shards of these cores.
        shards: Vec<ShardId>,
    },
    /// The store was not closed 5 s after the drain window. Acknowledged changes are kept.
    StoreTimedOut,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoreDied { shard } => write!(f, "core {shard} died; the log has the reason"),
            Self::CoresTimedOut { shards } => {
                let shards: Vec<_> = shards.iter().map(ToString::to_string).collect();
                write!(f, "the hub did not end in time: core {} is stuck", shards.join(", "))
            }
            Self::StoreTimedOut => f.write_str("the store was not closed in time; acknowledged changes are kept"),
        }
    }
}

impl std::error::Error for RunError {}

//! The values that all layers share: ids, events, positions, outcomes, reasons, times. Nothing here does I/O or knows a
//! protocol.

mod buffers;
mod change;
mod closing;
mod delivery;
mod delivery_mode;
mod event;
mod frame;
mod gateway_index;
mod id;
mod life;
pub mod log;
mod log_stats;
mod message;
mod network_prefix;
mod position;
mod proof;
mod side;
mod store;
mod time;
mod verdict;

pub use buffers::Buffers;
pub use change::Change;
pub use closing::CloseReason;
pub use delivery::{Awaiting, Failure, Missing, PublishOutcome};
pub use delivery_mode::DeliveryMode;
pub use event::{ApiDeployed, ApiUndeployed, Event, EventType, GatewayConfigUpdated};
pub use frame::{Frame, copy_pieces};
pub use gateway_index::GatewayIndex;
pub use id::{ConnectionId, CorrelationId, GatewayId, ShardId, TokenId};
pub use life::Life;
pub use log_stats::{COMMIT_LATENCY_BUCKETS_US, LogStats, Trimmed};
pub use message::{DeploymentAck, Message};
pub use network_prefix::NetworkPrefix;
pub use position::{Position, PositionBuffer};
pub use proof::Proof;
pub use side::Side;
pub use store::{GatewayRecord, Kept, StoreOp, StoreOutcome, TokenRecord};
pub use time::{Instant, Now, Timestamp};
pub use verdict::{KeyHash, Refused};

//! The nouns of the hub: plain values that every layer speaks; nothing here can fail at run time.

mod change;
mod closing;
mod delivery;
mod event;
mod id;
mod life;
mod message;
mod position;
mod side;
mod store;
mod time;
mod verdict;

pub use change::Change;
pub use closing::CloseReason;
pub use delivery::{Failure, PublishOutcome};
pub use event::{ApiDeployed, ApiUndeployed, Event, EventType, GatewayConfigUpdated};
pub use id::{ConnectionId, CorrelationId, GatewayId, ShardId, TokenId};
pub use life::Life;
pub use message::{DeploymentAck, Message};
pub use position::Position;
pub use side::Side;
pub use store::{GatewayRecord, Kept, StoreOp, StoreOutcome, TokenRecord};
pub use time::{Instant, Now, Timestamp};
pub use verdict::{KeyHash, Refused};

//! Why a gateway's connection ends: one table of wire code, label and whether to come back (contract section 1).

use std::fmt;

/// The one reason that a connection ends with; the label is the metric label, the log field and the reason text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CloseReason {
    /// The gateway sent a close frame; its code is echoed.
    GatewayAsked(u16),
    /// The transport ended without a close frame.
    GatewayGone,
    /// The hub drains.
    Shutdown,
    /// No sign of life for the heartbeat timeout.
    HeartbeatTimeout,
    /// The key it came with was revoked.
    KeyRevoked,
    /// Its gateway was deleted.
    GatewayDeleted,
    /// An inbound message over its bound, in bytes or fragments.
    MessageTooBig,
    /// It broke RFC 6455.
    ProtocolError,
    /// Text that is not UTF-8.
    NotUtf8,
    /// It sends more control frames than it may.
    Flood,
    /// Its outbox is over the bound, or nothing has moved for the write deadline.
    SlowConsumer,
    /// Our own fault.
    InternalError,
}

impl CloseReason {
    /// The labels of all reasons.
    pub const LABELS: [&str; 12] = [
        Self::GatewayAsked(1000).label(),
        Self::GatewayGone.label(),
        Self::Shutdown.label(),
        Self::HeartbeatTimeout.label(),
        Self::KeyRevoked.label(),
        Self::GatewayDeleted.label(),
        Self::MessageTooBig.label(),
        Self::ProtocolError.label(),
        Self::NotUtf8.label(),
        Self::Flood.label(),
        Self::SlowConsumer.label(),
        Self::InternalError.label(),
    ];

    /// The code of the close frame (RFC 6455 section 7.4.1); `None` where none can be sent.
    pub fn code(self) -> Option<u16> {
        match self {
            Self::GatewayAsked(code) => Some(code),
            Self::GatewayGone => None,
            Self::Shutdown | Self::HeartbeatTimeout => Some(1001),
            Self::ProtocolError => Some(1002),
            Self::NotUtf8 => Some(1007),
            Self::KeyRevoked | Self::GatewayDeleted | Self::Flood => Some(1008),
            Self::MessageTooBig => Some(1009),
            Self::InternalError => Some(1011),
            Self::SlowConsumer => Some(1013),
        }
    }

    /// The label in logs, metrics and close frames.
    pub const fn label(self) -> &'static str {
        match self {
            Self::GatewayAsked(_) => "gateway asked",
            Self::GatewayGone => "gateway gone",
            Self::Shutdown => "server shutdown",
            Self::HeartbeatTimeout => "heartbeat timeout",
            Self::KeyRevoked => "key revoked",
            Self::GatewayDeleted => "gateway deleted",
            Self::MessageTooBig => "message too big",
            Self::ProtocolError => "protocol error",
            Self::NotUtf8 => "invalid utf-8",
            Self::Flood => "flood",
            Self::SlowConsumer => "slow consumer",
            Self::InternalError => "internal error",
        }
    }

    /// Whether the same gateway may expect to be let in again.
    pub fn retry(self) -> bool {
        !matches!(self, Self::KeyRevoked | Self::GatewayDeleted)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

//! Why a gateway's connection ends: the close code, the label, and whether to reconnect (contract section 1).

use std::fmt;

/// The reason of a connection's end. Each connection ends with exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CloseReason {
    /// The gateway sent a close frame with this code.
    GatewayAsked(u16),
    /// The connection ended without a close frame from the gateway.
    GatewayGone,
    /// The hub is shutting down.
    Shutdown,
    /// The gateway was silent for the heartbeat timeout.
    HeartbeatTimeout,
    /// The token that the connection used was revoked.
    KeyRevoked,
    /// The gateway was deleted.
    GatewayDeleted,
    /// A message from the gateway exceeded its bound, in bytes or in fragments.
    MessageTooBig,
    /// The gateway violated RFC 6455.
    ProtocolError,
    /// A text message or close reason was not UTF-8.
    NotUtf8,
    /// The gateway sent too many control frames or messages.
    Flood,
    /// The socket took no bytes for the write deadline, the connection fell behind what the log keeps, or it held the most
    /// memory when there was too little.
    SlowConsumer,
    /// The gateway did not process an event within the processing timeout.
    ProcessingTimeout,
    /// The delivery of the gateway was changed: its next connection has the new one.
    DeliveryChanged,
    /// The log began a new epoch while the connection was behind.
    LogReplaced,
    /// An error of the hub.
    InternalError,
}

impl CloseReason {
    /// The labels of all reasons.
    pub const LABELS: [&str; 15] = [
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
        Self::ProcessingTimeout.label(),
        Self::DeliveryChanged.label(),
        Self::LogReplaced.label(),
        Self::InternalError.label(),
    ];

    /// The code of the close frame (RFC 6455 section 7.4.1); `None` if no close frame can be sent.
    pub fn code(self) -> Option<u16> {
        match self {
            // A close frame is answered with the code that it had (RFC 6455 section 5.5.1).
            Self::GatewayAsked(code) => Some(code),
            Self::GatewayGone => None,
            // 1001 for a timeout as well: the gateway may come back, and 1002 or 1008 would say that it broke a rule.
            Self::Shutdown | Self::HeartbeatTimeout | Self::LogReplaced | Self::DeliveryChanged => Some(1001),
            Self::ProtocolError => Some(1002),
            Self::NotUtf8 => Some(1007),
            Self::KeyRevoked | Self::GatewayDeleted | Self::Flood => Some(1008),
            Self::MessageTooBig => Some(1009),
            Self::InternalError | Self::ProcessingTimeout => Some(1011),
            // "Try again later", from the IANA registry of close codes.
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
            Self::ProcessingTimeout => "processing timeout",
            Self::DeliveryChanged => "delivery changed",
            Self::LogReplaced => "log replaced",
            Self::InternalError => "internal error",
        }
    }

    /// Whether the gateway can expect to be admitted if it reconnects.
    pub fn retry(self) -> bool {
        // The code alone does not tell: 1008 is sent for a flood as well, after which the key is still good.
        !matches!(self, Self::KeyRevoked | Self::GatewayDeleted)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

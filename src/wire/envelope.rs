//! The JSON of the messages to a gateway: an event's envelope and the connection's ack (contract section 1).

use crate::model::{ConnectionId, Event, GatewayId, Position, Timestamp};
use std::io::Write;

/// Appends the part of the envelope before the payload.
pub fn event_prefix(event: &Event, out: &mut Vec<u8>) {
    // Written by hand, because the payload follows byte for byte as it was published. The type needs no escaping:
    // `EventType` allows no character that JSON escapes.
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"payload\":");
}

/// Appends the part of the envelope after the payload.
pub fn event_suffix(event: &Event, position: Position, at: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"gatewayId\":\"");
    event.gateway.append_to(out);
    out.extend_from_slice(b"\",\"timestamp\":\"");
    at.append_to(out);
    out.extend_from_slice(b"\",\"correlationId\":\"");
    event.correlation.append_to(out);
    out.extend_from_slice(b"\",\"position\":\"");
    position.append_to(out);
    out.push(b'"');
    if let Some(user_id) = &event.user_id {
        out.extend_from_slice(b",\"userId\":");
        serde_json::to_writer(&mut *out, user_id).expect("a string serializes into memory");
    }
    out.push(b'}');
}

/// The ack, which is the first message of every connection.
pub fn connection_ack(
    gateway: GatewayId,
    connection: ConnectionId,
    position: Option<Position>,
    resumed: Option<bool>,
    at: Timestamp,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    put(&mut out, format_args!("{{\"type\":\"connection.ack\",\"gatewayId\":\"{gateway}\""));
    put(&mut out, format_args!(",\"connectionId\":\"{connection}\",\"timestamp\":\"{at}\""));
    if let Some(position) = position {
        put(&mut out, format_args!(",\"position\":\"{position}\""));
    }
    if let Some(resumed) = resumed {
        put(&mut out, format_args!(",\"resumed\":{resumed}"));
    }
    out.push(b'}');
    out
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing into memory cannot fail");
}

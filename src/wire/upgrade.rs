//! The WebSocket upgrade: checks a request, answers 101 (RFC 6455 section 4.2).

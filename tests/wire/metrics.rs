//! The metrics: what is refused, closed and failed is counted by its reason, over all cores.

use crate::{
    harness::{TestHub, eventually, on_own_one_and_four},
    request::Request,
    socket::fresh_address,
};

/// The sum of a metric's samples that have this label.
fn count(hub: &TestHub, metric: &str, label: &str) -> u64 {
    let text = hub.call("GET", "/metrics", "").text();
    let samples = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")) && line.contains(label));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn refused_connects_are_counted_by_reason() {
    on_own_one_and_four(
        |config| (config.rate_per_minute, config.connections_max) = (2, 1),
        |hub| {
            let refused = |reason: &str| count(hub, "gatecast_connects_refused_total", &format!("reason=\"{reason}\""));
            assert_eq!(refused("rate limited") + refused("unauthorized") + refused("capacity exceeded"), 0);
            let (gateway, _peer) = hub.connect_new();
            assert_eq!(hub.ask(&Request::upgrade("nobodys")).status, 401);
            assert_eq!(hub.ask(&Request::upgrade(&gateway.key)).status, 503);
            let from = fresh_address();
            let statuses: Vec<_> = (0..5).map(|_| hub.ask_from(from, &Request::upgrade("nobodys")).status).collect();
            assert_eq!(statuses, [401, 401, 429, 429, 429]);
            assert_eq!((refused("rate limited"), refused("unauthorized"), refused("capacity exceeded")), (3, 3, 1));
        },
    );
}

#[test]
fn closed_connections_are_counted_by_reason() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let closed =
                |reason: &str| count(hub, "gatecast_connections_closed_total", &format!("reason=\"{reason}\""));
            for n in 1..=3 {
                let (gateway, peer) = hub.connect_new();
                let _reads = hub.connect(&gateway.key);
                peer.leave();
                assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{}", gateway.id), "").status, 204);
                eventually("both have left", || closed("gateway asked") == n && closed("gateway deleted") == n);
            }
            assert_eq!(closed("heartbeat timeout") + closed("slow consumer"), 0);
        },
    );
}

#[test]
fn refused_calls_and_failed_connections_are_counted() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let refused = |status: u16| count(hub, "gatecast_calls_refused_total", &format!("status=\"{status}\""));
            let failed =
                |reason: &str| count(hub, "gatecast_connections_failed_total", &format!("reason=\"{reason}\""));
            assert_eq!(hub.ask(&Request::new("GET", "/metrics")).status, 401);
            assert_eq!(hub.call("GET", "/nowhere", "").status, 404);
            assert_eq!(hub.call("POST", "/api/v1/gateways", "{}").status, 400);
            assert_eq!((refused(401), refused(404), refused(400), refused(503)), (1, 1, 1, 0));
            let mut wire = hub.wire();
            wire.send(b"GET / HTTP/3.0\r\n\r\n");
            eventually("it is counted", || failed("version") == 1);
            let mut plain = crate::socket::Wire::new(crate::socket::open(hub.addr, fresh_address(), |_| {}), None);
            plain.send(b"GET / HTTP/1.1\r\n\r\n");
            eventually("it is counted", || failed("tls") == 1);
        },
    );
}

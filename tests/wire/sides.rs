//! The two sides of a hub with `admin.listen` (contract section 2): which calls each address serves.

use crate::{
    harness::{TestHub, on_own_one_and_four},
    request::{CONNECT_PATH, Request},
};
use gatecast::Config;
use std::net::{Ipv4Addr, SocketAddr};

/// The platform's calls, with the status that a valid token gets for them on the platform's side.
const PLATFORM_CALLS: &[(&str, &str, &str, u16)] = &[
    ("GET", "/api/v1/gateways", "", 200),
    ("POST", "/api/v1/gateways", "{}", 400),
    ("GET", "/api/v1/gateways/{}", "", 200),
    ("GET", "/api/v1/gateways/{}/tokens", "", 200),
    ("POST", "/api/v1/gateways/{}/tokens", "[]", 400),
    ("POST", "/api/v1/gateways/{}/events", "{}", 400),
    ("POST", "/api/v1/events", "{}", 200),
    ("POST", "/api/v1/apis/0e8f8a4c-5d0e-4f6e-9b1a-0d4a3c2b1a00/deploy-revision?revisionId=1", "{}", 400),
    ("GET", "/api/internal/v1/stats", "", 200),
    ("GET", "/metrics", "", 200),
];

fn two_sides(config: &mut Config) {
    config.admin_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
}

fn manifest(gateway: &str, key: &str) -> Request {
    let path = format!("/api/internal/v1/gateways/{gateway}/manifest");
    Request::new("POST", &path).with("api-key", key).body("{}")
}

fn health_and_readiness() -> [Request; 2] {
    ["/health", "/ready"].map(|path| Request::new("GET", path))
}

/// Makes each of the platform's calls for this gateway, with the token, through `check`, which also gets the status that
/// the platform's side gives it.
fn for_each_platform_call(hub: &TestHub, gateway: &str, check: impl Fn(&Request, u16)) {
    for (method, path, body, served) in PLATFORM_CALLS {
        eprintln!("{method} {path}");
        check(&hub.platform_request(method, &path.replace("{}", gateway), body), *served);
    }
}

#[test]
fn with_an_own_address_for_the_platform_the_gateways_side_serves_no_platform_call() {
    on_own_one_and_four(two_sides, |hub| {
        assert_ne!(hub.addr, hub.platform_addr);
        let (gateway, mut peer) = hub.connect_new();
        for_each_platform_call(hub, &gateway.id, |request, served| {
            assert_eq!(hub.ask(request).status, 404, "on the gateways' side");
            assert_eq!(hub.ask_platform_side(request).status, served, "on the platform's side");
        });
        let deletion = hub.platform_request("DELETE", &format!("/api/v1/gateways/{}", gateway.id), "");
        assert_eq!(hub.ask(&deletion).status, 404);
        for request in health_and_readiness() {
            assert_eq!(hub.ask(&request).status, 200, "{request:?}");
        }
        assert_eq!(hub.ask(&manifest(&gateway.id, &gateway.key)).status, 204);
        assert_eq!(hub.ask(&manifest(&gateway.id, "wrong")).status, 401);
        hub.publish(&gateway.id, "t", "{}");
        assert_eq!(peer.event().kind, "t");
    });
}

#[test]
fn with_an_own_address_the_platforms_side_serves_all_but_the_gateways_websocket() {
    on_own_one_and_four(two_sides, |hub| {
        let gateway = hub.register();
        for request in [Request::upgrade(&gateway.key), Request::upgrade("wrong"), Request::new("GET", CONNECT_PATH)] {
            let answer = hub.ask_platform_side(&request);
            assert_eq!(answer.status, 404, "{request:?}: {answer:?}");
        }
        for request in health_and_readiness() {
            assert_eq!(hub.ask_platform_side(&request).status, 200, "{request:?}");
        }
        assert_eq!(hub.ask_platform_side(&manifest(&gateway.id, &gateway.key)).status, 204);
        assert_eq!(hub.ask_platform_side(&Request::new("GET", "/metrics")).status, 401, "the token is still needed");
        hub.connect(&gateway.key).leave();
    });
}

//! Publishers and gateways of the delivery `processed` on the platform's side (contract sections 2 and 3): waiting for the
//! processing, events that wait for their gateway, sending one again, statistics and metrics.

use crate::{
    harness::{TestHub, on_one_and_four, on_own_one_and_four},
    processed::{
        assert_quiet, connect_busy, event_and_ping, handle_one, pong, position, publish, register, without_heartbeat,
    },
    request::Answer,
    socket::PROMPT,
};
use gatecast::limits;
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Publishes an event with this query behind the path.
fn publish_with(hub: &TestHub, gateway: &str, query: &str) -> Answer {
    hub.call("POST", &format!("/api/v1/gateways/{gateway}/events{query}"), r#"{"type":"t","payload":1}"#)
}

fn deploy(hub: &TestHub, query: &str, gateways: &[&str]) -> Answer {
    let targets: Vec<_> = gateways.iter().map(|id| json!({ "gatewayId": id, "vhost": "a.example" })).collect();
    let path = format!("/api/v1/apis/{}/deploy-revision?revisionId=1{query}", uuid::Uuid::new_v4());
    hub.call("POST", &path, &json!(targets).to_string())
}

fn batch(hub: &TestHub, query: &str, gateways: &[&str]) -> Vec<Value> {
    let line = |id: &&str| json!({ "gatewayId": id, "type": "t", "payload": 1 }).to_string();
    let body = gateways.iter().map(line).collect::<Vec<_>>().join("\n");
    let answer = hub.call("POST", &format!("/api/v1/events{query}"), &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn resend(hub: &TestHub, gateway: &str, position: &str, query: &str) -> Answer {
    hub.call("POST", &format!("/api/v1/gateways/{gateway}/events/{position}/resend{query}"), "")
}

fn assert_processed(outcome: &Value) {
    assert_eq!((&outcome["processed"], outcome.get("missing")), (&json!(true), None), "{outcome}");
}

#[test]
fn a_publisher_that_waits_is_answered_once_each_connection_has_processed_its_event() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = register(hub);
        let mut peers = [(); 2].map(|()| connect_busy(hub, &gateway.key));
        thread::scope(|scope| {
            let publisher = scope.spawn(|| publish_with(hub, &gateway.id, "?wait=20s&until=processed"));
            let at = peers.each_mut().map(|peer| event_and_ping(peer).0.position.unwrap());
            for (peer, at) in peers.iter_mut().zip(&at) {
                thread::sleep(Duration::from_millis(200));
                assert!(!publisher.is_finished(), "not every connection has processed it");
                pong(peer, at);
            }
            let answer = publisher.join().unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_processed(&answer.json());
            assert_eq!((&answer.json()["connections"], &answer.json()["delivered"]), (&json!(2), &json!(2)));
        });
        // Without the wait, nothing is said about it.
        let outcome = hub.publish(&gateway.id, "t", "1");
        assert!(outcome.get("processed").is_none() && outcome.get("missing").is_none(), "{outcome}");
    });
}

#[test]
fn a_publisher_whose_time_is_over_is_told_which_connection_is_missing_and_why() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let [busy, away] = [register(hub), register(hub)];
        let (written, _written) = hub.connect_new();
        let mut peer = connect_busy(hub, &busy.key);
        let gateways = [&*busy.id, &busy.id, &away.id, &written.id];
        let began = Instant::now();
        let outcomes = batch(hub, "?wait=500ms", &gateways);
        assert!((Duration::from_millis(500)..Duration::from_millis(500) + PROMPT).contains(&began.elapsed()));
        let missing = outcomes.iter().map(|outcome| {
            assert_eq!(outcome["processed"], json!(false), "{outcome}");
            outcome["missing"].clone()
        });
        let id = peer.connection_id().to_owned();
        let expected = [
            json!([{ "connectionId": id, "reason": "processing", "before": 0 }]),
            json!([{ "connectionId": id, "reason": "behind", "before": 1 }]),
            json!([{ "connectionId": null, "reason": "gateway not connected" }]),
            json!([{ "connectionId": null, "reason": "delivery of the gateway is `written`" }]),
        ];
        assert_eq!(missing.collect::<Vec<_>>(), expected);
        assert_eq!((&outcomes[2]["waiting"], &outcomes[2]["failed"]), (&json!(true), &json!(0)), "{}", outcomes[2]);
        handle_one(&mut peer);
        pong(&mut peer, &position(&outcomes[0]));
        assert_eq!(event_and_ping(&mut peer).0.position, Some(position(&outcomes[1])), "it goes on all the same");
    });
}

#[test]
fn a_batch_and_a_deployment_are_answered_once_all_of_their_events_are_processed() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateways = [(); 3].map(|()| register(hub));
        let ids = gateways.each_ref().map(|gateway| &*gateway.id);
        let mut peers = gateways.each_ref().map(|gateway| connect_busy(hub, &gateway.key));
        thread::scope(|scope| {
            let batch = scope.spawn(|| batch(hub, "?wait=20s", &ids));
            let at = peers.each_mut().map(|peer| event_and_ping(peer).0.position.unwrap());
            for (peer, at) in peers.iter_mut().zip(&at) {
                assert!(!batch.is_finished());
                pong(peer, at);
            }
            batch.join().unwrap().iter().for_each(assert_processed);

            let deploy = scope.spawn(|| deploy(hub, "&wait=20s&until=processed", &ids).json());
            let at = peers.each_mut().map(|peer| event_and_ping(peer).0.position.unwrap());
            for (peer, at) in peers.iter_mut().zip(&at) {
                assert!(!deploy.is_finished());
                pong(peer, at);
            }
            for item in deploy.join().unwrap().as_array().unwrap() {
                assert_eq!(item["status"], "success", "{item}");
                assert_processed(item);
            }
        });
    });
}

#[test]
fn what_is_published_while_a_gateway_is_away_waits_for_it_and_is_no_failure() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = register(hub);
        let outcome = hub.publish(&gateway.id, "t", "1");
        let brief = ["connections", "failed", "waiting", "failures"].map(|member| outcome[member].clone());
        assert_eq!(brief, [json!(0), json!(0), json!(true), json!(null)], "{outcome}");
        let item = deploy(hub, "", &[&gateway.id]).json()[0].clone();
        assert_eq!((&item["status"], &item["failedGatewayCount"]), (&json!("waiting"), &json!(0)), "{item}");
        assert_eq!(hub.stats("")["eventDelivery"]["failedDeliveries"], json!(0));
        // A type that is not delivered late, and a publisher that waits for the gateway to come.
        hub.publish(&gateway.id, "apikey.created", "3");
        thread::scope(|scope| {
            let last = scope.spawn(|| publish_with(hub, &gateway.id, "?wait=20s").json());
            let kind = |kind: &str| json!({ "gatewayId": gateway.id, "type": kind, "payload": 4 }).to_string();
            let skipped =
                scope.spawn(move || hub.call("POST", "/api/v1/events?wait=20s", &kind("apikey.updated")).json());
            let logged =
                || hub.call("GET", &format!("/api/v1/gateways/{}/events", gateway.id), "").json()["count"].clone();
            crate::harness::eventually("both are published", || logged() == json!(5));
            let mut peer = hub.connect(&gateway.key);
            for kind in ["t", "api.deployed", "t"] {
                assert_eq!(event_and_ping(&mut peer).0.kind, kind);
            }
            peer.is_alive();
            assert_processed(&last.join().unwrap());
            let skipped = skipped.join().unwrap();
            assert_eq!((&skipped["processed"], &skipped["skipped"]), (&json!(true), &json!("replay")), "{skipped}");
        });
    });
}

#[test]
fn a_wait_that_is_no_time_up_to_a_minute_is_400_and_nothing_is_sent() {
    on_one_and_four(|hub| {
        let gateway = register(hub);
        let at = publish(hub, &gateway.id, "1");
        let line = json!({ "gatewayId": gateway.id, "type": "t", "payload": 1 }).to_string();
        for bad in
            ["wait=61s", "wait=60001ms", "wait=0s", "wait=30", "wait=", "wait=1s&until=settled", "until=processed"]
        {
            let answers = [
                publish_with(hub, &gateway.id, &format!("?{bad}")),
                hub.call("POST", &format!("/api/v1/events?{bad}"), &line),
                deploy(hub, &format!("&{bad}"), &[&gateway.id]),
                resend(hub, &gateway.id, &at, &format!("?{bad}")),
            ];
            for answer in answers {
                assert_eq!(answer.status, 400, "{bad}: {answer:?}");
                assert!(answer.text().contains("query parameter `"), "{bad}: {answer:?}");
            }
        }
        let log = hub.call("GET", &format!("/api/v1/gateways/{}/events", gateway.id), "").json();
        assert_eq!(log["count"], json!(1), "{log}");
    });
}

#[test]
fn a_drain_answers_publishers_that_wait_at_once() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateways = [(); 8].map(|()| register(hub));
        let mut peers = gateways.each_ref().map(|gateway| connect_busy(hub, &gateway.key));
        thread::scope(|scope| {
            let wait = |gateway| move || publish_with(hub, gateway, "?wait=60s");
            let publishers: Vec<_> = gateways.iter().map(|gateway| scope.spawn(wait(&gateway.id))).collect();
            peers.iter_mut().for_each(|peer| drop(handle_one(peer)));
            let began = Instant::now();
            hub.drain();
            for publisher in publishers {
                let answer = publisher.join().unwrap();
                assert_eq!((answer.status, &answer.json()["processed"]), (200, &json!(false)), "{answer:?}");
                assert_eq!(answer.json()["missing"][0]["reason"], "processing", "{answer:?}");
            }
            assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        });
    });
}

#[test]
fn an_event_of_the_log_is_sent_again_with_a_new_position_and_correlation_id() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = register(hub);
        let mut peer = connect_busy(hub, &gateway.key);
        let payload = r#"{"b":12345678901234567890123,"a":"\u0041", "a":1e400}"#;
        let body = format!(r#"{{"type":"apikey.created","payload":{payload},"userId":"ü"}}"#);
        let sent = hub.try_publish(&gateway.id, &body).json();
        publish(hub, &gateway.id, "2");
        let (first, _) = event_and_ping(&mut peer);
        thread::scope(|scope| {
            let again = scope.spawn(|| resend(hub, &gateway.id, &position(&sent), "?wait=20s"));
            pong(&mut peer, first.position.as_deref().unwrap());
            let (between, _) = event_and_ping(&mut peer);
            assert_eq!(between.payload.get(), "2");
            pong(&mut peer, between.position.as_deref().unwrap());
            let (second, _) = event_and_ping(&mut peer);
            assert!(!again.is_finished());
            pong(&mut peer, second.position.as_deref().unwrap());
            let answer = again.join().unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            let again = answer.json();
            assert_processed(&again);
            assert_eq!(
                (again["position"].as_str(), again["correlationId"].as_str()),
                (second.position.as_deref(), Some(&*second.correlation_id))
            );
            assert!(first.correlation_id != second.correlation_id && first.position != second.position);
            let same = |event: &crate::peer::Event| {
                (event.kind.clone(), event.payload.get().to_owned(), event.user_id.clone())
            };
            assert_eq!(same(&first), same(&second));
            assert_eq!(second.payload.get(), payload);
        });
    });
}

#[test]
fn only_an_event_that_the_log_has_can_be_sent_again() {
    let change = |config: &mut gatecast::Config| config.event_log_gateway_bytes_max = 1024 * 1024;
    on_own_one_and_four(change, |hub| {
        let [gateway, other] = [register(hub), register(hub)];
        let first = publish(hub, &gateway.id, "1");
        let (epoch, _) = first.split_once('-').unwrap();
        let at = |offset: u64| format!("{epoch}-{offset}");
        let status = |position: &str| resend(hub, &gateway.id, position, "").status;
        for none in [2, 3, 99, u64::MAX] {
            assert_eq!(status(&at(none)), 404, "there is no event {none}");
        }
        for text in ["x", "2", &at(0), "0000000000000001-01", "%00"] {
            assert_eq!(status(text), 400, "{text} is no position");
        }
        let foreign = publish(hub, &other.id, "1");
        let refusals = [resend(hub, &gateway.id, &foreign, ""), resend(hub, &gateway.id, "0000000000000001-1", "")];
        for refusal in refusals {
            assert_eq!((refusal.status, &refusal.json()["last"]), (410, &json!(first)), "{refusal:?}");
            assert!(refusal.text().contains("not one of the gateway's log"), "{refusal:?}");
        }
        for _ in 0..4 {
            publish(hub, &gateway.id, &format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX / 2)));
        }
        crate::harness::eventually("the first event is trimmed", || status(&first) == 410);
        let refusal = resend(hub, &gateway.id, &first, "");
        assert!(refusal.text().contains("no longer kept"), "{refusal:?}");
        let unknown = uuid::Uuid::new_v4().to_string();
        assert_eq!(resend(hub, &unknown, &first, "").status, 404);
        let bare =
            crate::request::Request::new("POST", &format!("/api/v1/gateways/{}/events/{first}/resend", gateway.id));
        assert_eq!(hub.ask(&bare.with("api-key", &gateway.key)).status, 401);
    });
}

#[test]
fn the_statistics_and_metrics_show_what_a_gateway_has_processed_and_missed() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = register(hub);
        let metric = |name: &str| -> f64 {
            let text = hub.call("GET", "/metrics", "").text();
            let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
            samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        let away = [publish(hub, &gateway.id, "1"), publish(hub, &gateway.id, "2")];
        hub.publish(&gateway.id, "apikey.created", "3");
        let mut peer = connect_busy(hub, &gateway.key);
        assert_eq!(handle_one(&mut peer), "1");
        let row = hub.rows(&gateway.id).remove(0);
        let brief = ["delivery", "missed", "unprocessed"].map(|member| row[member].clone());
        assert_eq!(brief, [json!("processed"), json!(3), json!(3)], "{row}");
        let at_work = &row["processing"];
        assert_eq!((&at_work["position"], &at_work["type"]), (&json!(away[0]), &json!("t")), "{row}");
        assert!(at_work["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{row}");
        assert_eq!((metric("gatecast_events_missed_total"), metric("gatecast_unprocessed_events_max")), (3.0, 3.0));

        pong(&mut peer, "invented");
        pong(&mut peer, &away[0]);
        assert_eq!(handle_one(&mut peer), "2");
        assert_eq!(hub.rows(&gateway.id)[0]["processed"], json!(away[0]));
        pong(&mut peer, &away[1]);
        peer.is_alive();
        let row = hub.rows(&gateway.id).remove(0);
        let brief = ["processing", "missed", "unprocessed"].map(|member| row[member].clone());
        assert_eq!(brief, [json!(null), json!(3), json!(0)], "{row}");
        let names = [
            "unprocessed_events_max",
            "events_replayed_total",
            "events_skipped_total",
            "pongs_unexpected_total",
            "event_processing_seconds_count",
        ];
        assert_eq!(names.map(|name| metric(&format!("gatecast_{name}"))), [0.0, 2.0, 1.0, 1.0, 2.0]);
        assert_quiet(&mut peer);
    });
}

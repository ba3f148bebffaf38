//! The answer to a change that the store cannot make (contract section 2).

use crate::harness::on_own_one_and_four;
use rusqlite::Connection;
use serde_json::json;

#[test]
fn a_change_while_the_store_is_locked_is_answered_as_not_kept() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let gateway = hub.register();
            let store = Connection::open(hub.data().join("gatecast.db")).unwrap();
            store.execute_batch("BEGIN EXCLUSIVE").unwrap();
            let at = format!("/api/v1/gateways/{}", gateway.id);
            let token = format!("{at}/tokens/{}", gateway.token_id);
            for (method, path, body) in [
                ("POST", "/api/v1/gateways", r#"{"name":"late"}"#),
                ("POST", &format!("{at}/tokens"), "{}"),
                ("DELETE", &token, ""),
                ("DELETE", &at, ""),
            ] {
                let answer = hub.call(method, path, body);
                assert_eq!((answer.status, answer.retry_after()), (503, Some(1)), "{method} {path}: {answer:?}");
                assert_eq!(answer.json()["kept"], "no", "{method} {path}: {answer:?}");
            }
            store.execute_batch("ROLLBACK").unwrap();
            let names = || hub.call("GET", "/api/v1/gateways", "").json()["list"].clone();
            assert_eq!(names().as_array().unwrap().len(), 1, "only the gateway from before: {}", names());
            let tokens = hub.call("GET", &format!("{at}/tokens"), "").json();
            assert_eq!(tokens["list"][0]["id"], json!(gateway.token_id), "{tokens}");
            hub.connect(&gateway.key).leave();
        },
    );
}

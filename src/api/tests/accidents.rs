//! Property tests: any input gets a response, and none causes a panic.

use super::*;
use proptest::prelude::*;

/// Sends every valid request with its body and query damaged in one place.
fn check_damaged(at: usize, damage: &[u8], query: &str) {
    let world = World::new();
    for mut request in every_call(&world) {
        let at = at % (request.body.len() + 1);
        let end = (at + damage.len()).min(request.body.len());
        request.body.splice(at..end, damage.iter().copied());
        request.query = request.query.map(|good| format!("{good}&{query}")).or(Some(query.to_owned()));
        let response = world.run(&request, |_| Answer::Overloaded);
        assert!(matches!(response.status, 200 | 400 | 413 | 503), "{request:?} {response:?}");
    }
}

proptest! {
    #[test]
    fn damage_in_one_place_is_answered(at: usize, damage: Vec<u8>, query: String) {
        check_damaged(at, &damage, &query);
    }

    #[test]
    fn json_in_the_wrong_place_is_answered(at: usize, damage in r#"[\[\]{}",:0-9a-z\\\n]{0,8}"#) {
        check_damaged(at, damage.as_bytes(), "limit=1&gatewayId=%");
    }

    #[test]
    fn any_path_and_method_is_answered(path: String, method in 0..4_usize) {
        let method = ["GET", "HEAD", "POST", "DELETE"][method];
        let response = World::new().respond(&Request::new(method, path));
        assert_eq!(response.status, 404);
    }
}

//! Creates the gateways of a run through the hub's API, over several connections, and deletes them at the end.

use crate::target::Endpoint;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use ureq::{
    Agent,
    http::Request,
    tls::{Certificate, RootCerts, TlsConfig},
};
use uuid::Uuid;

/// A gateway that is registered with the hub.
pub struct Registered {
    /// Its id.
    pub id: String,
    /// The key with which it connects.
    pub key: String,
}

const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request that was answered 503 is sent in all.
const TRIES: usize = 20;

/// Creates `gateways` gateways with one token each. `progress` is called with the index of each that is done.
///
/// # Errors
/// The first request that failed.
pub fn register_all(
    endpoint: &Endpoint,
    gateways: usize,
    connections: usize,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Registered>, String> {
    let run = Uuid::new_v4().simple().to_string();
    let new =
        |index: usize| Registered { id: Uuid::new_v4().to_string(), key: format!("{run}-{index}-{}", Uuid::new_v4()) };
    let registered: Vec<Registered> = (0..gateways).map(new).collect();
    in_parallel(endpoint, gateways, connections, &|api, index| {
        let Registered { id, key } = &registered[index];
        api.call(
            "POST",
            "/api/v1/gateways",
            &json!({"id": id, "name": format!("loadtest-{run}-{index}")}).to_string(),
        )?;
        let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        api.call("POST", &format!("/api/v1/gateways/{id}/tokens"), &json!({ "sha256": hash }).to_string())?;
        progress(index);
        Ok(())
    })?;
    Ok(registered)
}

/// Deletes gateways.
///
/// # Errors
/// The first request that failed.
pub fn delete_all(endpoint: &Endpoint, ids: &[String], connections: usize) -> Result<(), String> {
    in_parallel(endpoint, ids.len(), connections, &|api, index| {
        api.call("DELETE", &format!("/api/v1/gateways/{}", ids[index]), "").map(drop)
    })
}

type Job<'a> = &'a (dyn Fn(&Api, usize) -> Result<(), String> + Sync);

/// Runs `job` for 0 to `count` on this many connections; ends after the first failure.
fn in_parallel(endpoint: &Endpoint, count: usize, connections: usize, job: Job<'_>) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let work = || {
        let api = Api::new(endpoint);
        while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < count) {
            if let Err(error) = job(&api, index) {
                // Past the end, so that the other threads stop as well.
                next.store(count, Ordering::Relaxed);
                *failed.lock().expect("no thread panics while it holds the lock") = Some(error);
            }
        }
    };
    // ureq blocks, so each connection has a thread of its own.
    thread::scope(|scope| (0..connections.clamp(1, count.max(1))).for_each(|_| drop(scope.spawn(work))));
    failed.into_inner().expect("no thread panics while it holds the lock").map_or(Ok(()), Err)
}

/// A client of the hub's platform API.
pub struct Api {
    agent: Agent,
    base: String,
    authorization: String,
}

impl Api {
    /// A client with a connection of its own.
    pub fn new(endpoint: &Endpoint) -> Self {
        let roots = endpoint.trusted.as_ref().map_or(RootCerts::WebPki, |trusted| {
            RootCerts::from(trusted.iter().map(|certificate| Certificate::from_der(certificate).to_owned()))
        });
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Straight to the hub, whatever proxy the environment names for other traffic.
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        let authorization = format!("Bearer {}", endpoint.admin_token);
        Self { agent: config.build().new_agent(), base: endpoint.url.clone(), authorization }
    }

    /// Sends a request, and sends it again while the answer is 503.
    ///
    /// # Errors
    /// The hub cannot be reached, answers with an error, or is still busy after all tries.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let mut refusal = String::new();
        for _ in 0..TRIES {
            let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
            let request =
                request.header("authorization", &self.authorization).header("content-type", "application/json");
            let request = request.body(body.to_owned()).map_err(|error| error.to_string())?;
            let answer = if body.is_empty() { self.agent.run(request.map(drop)) } else { self.agent.run(request) };
            let mut answer = answer.map_err(|error| format!("cannot reach the hub at {}: {error}", self.base))?;
            let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
            match answer.status().as_u16() {
                200..300 => return Ok(text),
                // The hub's store has a bounded queue and answers 503 when it is full.
                503 => thread::sleep(Duration::from_millis(200)),
                status => return Err(format!("{method} {path}: the hub answered {status} {text}")),
            }
            refusal = text;
        }
        Err(format!("{method} {path}: the hub answered 503 to {TRIES} tries: {refusal}"))
    }
}

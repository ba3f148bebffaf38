//! A client of the hub's HTTP API, with the TLS trust that the commands share.

use super::Failure;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};
use ureq::{
    Agent,
    http::{Request, Response},
    tls::{Certificate, RootCerts, TlsConfig},
};

/// Time for a call and its answer, beyond the time that the hub is asked to wait. The hub's own deadlines are far shorter.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer. A page of statistics is far smaller.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A successful answer of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The body, unchanged.
    pub text: String,
    /// When the hub gave it, by the hub's clock and in whole seconds; `None` if it does not say.
    pub at: Option<jiff::Timestamp>,
}

impl Answer {
    /// The body as JSON; `null` if it is empty or not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The hub refused it.
    Refused {
        /// The status.
        status: u16,
        /// What the hub says about it.
        why: String,
        /// The body as JSON; `null` if it is not JSON.
        body: Value,
    },
    /// The hub could not be asked.
    Failed(Failure),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, why, .. } => write!(f, "the hub refused: {status} {why}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Failed(failure) => failure,
            refused => Self::Failed(refused.to_string()),
        }
    }
}

/// Makes the platform's calls to one hub.
pub struct Client {
    agent: Agent,
    base: String,
    authorization: String,
}

impl Client {
    /// Creates a client of the hub at `base`. `trusted` are the only certificates to trust; `None` trusts the public
    /// authorities.
    pub fn new(base: &str, trusted: Option<&[CertificateDer<'static>]>, admin_token: &str) -> Self {
        let roots = trusted.map_or(RootCerts::WebPki, |trusted| {
            RootCerts::from(trusted.iter().map(|certificate| Certificate::from_der(certificate).to_owned()))
        });
        let config = Agent::config_builder()
            // A refusal has a body that says why, which ureq's own error would drop.
            .http_status_as_error(false)
            // Neither a redirect nor a proxy from the environment may carry the admin token elsewhere.
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let authorization = format!("Bearer {admin_token}");
        Self { agent: config.new_agent(), base: base.to_owned(), authorization }
    }

    /// Makes a `GET` call; the path begins with a slash.
    ///
    /// # Errors
    /// The hub's reason to refuse the call, or why the hub cannot be reached.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        Ok(self.try_get(path)?)
    }

    /// Makes a `GET` call whose refusal the caller looks at.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn try_get(&self, path: &str) -> Result<Answer, CallError> {
        self.call("GET", path, None, Duration::ZERO)
    }

    /// Makes a `POST` call with a JSON body.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post(&self, path: &str, body: &str) -> Result<Answer, Failure> {
        Ok(self.call("POST", path, Some(body), Duration::ZERO)?)
    }

    /// Makes a `POST` call that the hub may answer only after this time.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post_and_wait(&self, path: &str, body: &str, wait: Duration) -> Result<Answer, Failure> {
        Ok(self.call("POST", path, Some(body), wait)?)
    }

    /// Makes a `PATCH` call with a JSON body.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn patch(&self, path: &str, body: &str) -> Result<Answer, Failure> {
        Ok(self.call("PATCH", path, Some(body), Duration::ZERO)?)
    }

    /// Makes a `DELETE` call.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<Answer, Failure> {
        Ok(self.call("DELETE", path, None, Duration::ZERO)?)
    }

    fn call(&self, method: &str, path: &str, body: Option<&str>, wait: Duration) -> Result<Answer, CallError> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.header("authorization", &self.authorization);
        let invalid_request =
            |_| Failure::Usage("invalid admin token or hub address: expected visible ASCII characters".to_owned());
        let response = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body).map_err(invalid_request)?;
                let configured = self.agent.configure_request(request).timeout_global(Some(TIMEOUT + wait));
                self.agent.run(configured.build())
            }
            None => self.agent.run(request.body(()).map_err(invalid_request)?),
        };
        answer(response.map_err(|error| self.unreachable(&error))?)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        Failure::Failed(match error {
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                format!("nothing listens at {base}: start a hub with `gatecast serve`, or name another with --server")
            }
            // ureq wraps the error of rustls as text only.
            error if error.to_string().contains("certificate") => {
                format!(
                    "the certificate of {base} is not trusted ({error}): name the certificate to trust with --ca FILE"
                )
            }
            error => format!("cannot reach {base}: {error}"),
        })
    }
}

fn answer(mut response: Response<ureq::Body>) -> Result<Answer, CallError> {
    let status = response.status();
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let at = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string();
    let text = text.map_err(|error| Failure::Failed(format!("cannot read the hub's answer: {error}")))?;
    if status.is_success() {
        return Ok(Answer { text, at });
    }
    let body = Answer { text, at }.json();
    let why = ["description", "message"].iter().find_map(|member| body[member].as_str().filter(|it| !it.is_empty()));
    let hint = if status.as_u16() == 401 {
        " (check the admin token: --admin-token, GATECAST_ADMIN_TOKEN or the data directory)"
    } else {
        ""
    };
    let why = why.unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given"));
    let why = format!("{why}{hint}");
    Err(CallError::Refused { status: status.as_u16(), why, body })
}

/// The TLS configuration with the same trust, for connections that are not HTTP calls.
pub(super) fn tls_config(trusted: Option<&[CertificateDer<'static>]>) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    match trusted {
        Some(certificates) => {
            let refused = |error| Failure::Usage(format!("cannot use a certificate to trust: {error}"));
            certificates.iter().try_for_each(|it| roots.add(it.clone()).map_err(refused))?;
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    // Named explicitly: rustls would panic if a dependency enabled a second provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{TlsHub, answer_http},
        *,
    };

    #[test]
    fn the_address_of_a_hub_that_does_not_listen_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("https://{}", socket.local_addr().expect("it is bound"));
        drop(socket);
        let client = Client::new(&base, None, "t");
        let error = client.get("/health").expect_err("nobody listens").to_string();
        assert!(error.starts_with(&format!("nothing listens at {base}")), "{error}");
    }

    #[test]
    fn only_the_given_certificate_is_trusted() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n{\"a\": 1}";
        let hub = TlsHub::start(move |stream| drop(answer_http(stream, answer)));
        let client = Client::new(&hub.endpoint.base, hub.endpoint.trusted.as_deref(), "t0ken");
        assert_eq!(client.get("/x").expect("it answers").json(), serde_json::json!({ "a": 1 }));

        let other = TlsHub::start(|_| ());
        let error = Client::new(&hub.endpoint.base, other.endpoint.trusted.as_deref(), "t0ken")
            .get("/x")
            .expect_err("it is not trusted")
            .to_string();
        assert!(error.contains("with --ca FILE"), "{error}");
    }

    #[test]
    fn a_refusal_shows_the_hubs_description() {
        let check = |answer: &'static str, expected: &str| {
            let hub = TlsHub::start(move |stream| drop(answer_http(stream, answer)));
            let error = Client::new(&hub.endpoint.base, hub.endpoint.trusted.as_deref(), "t")
                .get("/x")
                .expect_err("it refuses")
                .to_string();
            assert_eq!(error, expected);
        };
        check(
            "HTTP/1.1 409 Conflict\r\nContent-Length: 34\r\nConnection: close\r\n\r\n\
             {\"code\":409,\"description\":\"taken\"}",
            "the hub refused: 409 taken",
        );
        check(
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "the hub refused: 401 Unauthorized \
             (check the admin token: --admin-token, GATECAST_ADMIN_TOKEN or the data directory)",
        );
    }
}

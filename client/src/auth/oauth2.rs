//! Access tokens by the client credentials grant of OAuth2, RFC 6749 section 4.4.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::token::{Token, TokenSource};
use super::{AuthError, Credentials, CredentialsProvider};

/// Time for one request to the token endpoint, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A token is renewed so long before it ends, or at nine tenths of its life where that is later.
const MARGIN: Duration = Duration::from_secs(30);

/// Largest answer of a token endpoint, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// Longest life of a token that is believed: a year.
const LIFE_S_MAX: u64 = 365 * 24 * 3600;

/// Tokens of an OAuth2 token endpoint, asked for with this program's own identity.
///
/// A [`TokenSource`], for [`crate::auth::TokenPassword`] or [`crate::auth::Bearer`]; by itself a provider that gives
/// the token as password and no user name. A token is kept until shortly before its end; clones, and sessions, share
/// it and the request for it.
#[derive(Clone)]
pub struct ClientCredentials {
    endpoint: Uri,
    client_id: String,
    client_secret: String,
    in_body: bool,
    parameters: Vec<(String, String)>,
    timeout: Duration,
    roots: Option<RootCerts>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    token: Option<Token>,
    /// The last request's failure, for those who waited for its end.
    failure: Option<(Instant, AuthError)>,
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ClientCredentials");
        debug.field("endpoint", &self.endpoint).field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl ClientCredentials {
    /// Tokens of this endpoint, an `https://` address; `http://` is accepted on this machine only, since the secret
    /// would be readable on the way.
    pub fn new(endpoint: &str, client_id: &str, client_secret: &str) -> Result<Self, AuthError> {
        let bad = |why: &str| AuthError(format!("the token endpoint {endpoint:?} is not accepted: {why}"));
        let uri: Uri = endpoint.parse().map_err(|_| bad("write it as https://host/path"))?;
        let host = uri.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_local => {}
            Some("http") => return Err(bad("the secret would travel unprotected: use https")),
            Some(_) | None => return Err(bad("write it as https://host/path")),
        }
        Ok(Self {
            endpoint: uri,
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            in_body: false,
            parameters: Vec::new(),
            timeout: TIMEOUT,
            roots: None,
            kept: Arc::default(),
        })
    }

    /// Asks for this scope.
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        self.parameter("scope", scope)
    }

    /// Sends another parameter, `audience` say.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Sends client id and secret in the body, for endpoints that do not know HTTP Basic authentication.
    #[must_use]
    pub fn secret_in_body(mut self) -> Self {
        self.in_body = true;
        self
    }

    /// Time for one request. Default 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Trusts the certificates in this PEM file, and no others, to sign the endpoint's.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Result<Self, AuthError> {
        let path = path.as_ref();
        let bad = |why: &dyn fmt::Display| AuthError(format!("{}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| bad(&error))?;
        let mut certificates = Vec::new();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| bad(&error))? {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err(bad(&"holds no certificate: give a PEM file of the authority's"));
        }
        self.roots = Some(RootCerts::new_with_certs(&certificates));
        Ok(self)
    }

    fn agent(&self) -> Agent {
        let mut config = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false);
        if let Some(roots) = &self.roots {
            config = config.tls_config(TlsConfig::builder().root_certs(roots.clone()).build());
        }
        Agent::new_with_config(config.build())
    }

    /// Asks the endpoint.
    fn fetch(&self) -> Result<Token, AuthError> {
        let bad = |why: &dyn fmt::Display| AuthError(format!("token endpoint {}: {why}", self.endpoint));
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut request = self.agent().post(self.endpoint.clone()).header("Accept", "application/json");
        if self.in_body {
            form.extend([("client_id", self.client_id.as_str()), ("client_secret", &self.client_secret)]);
        } else {
            // RFC 6749 section 2.3.1: both are form-encoded first.
            let pair = format!("{}:{}", form_encoded(&self.client_id), form_encoded(&self.client_secret));
            request = request.header("Authorization", format!("Basic {}", BASE64.encode(pair)));
        }
        let asked_at = Instant::now();
        let mut response = request.send_form(form).map_err(|error| bad(&error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| bad(&error))?;
        let answer: Value = serde_json::from_str(&body)
            .map_err(|_| bad(&format_args!("answered {status}, and what is no JSON")))?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        if !status.is_success() {
            let code = text("error").unwrap_or("no error code");
            let said = text("error_description").unwrap_or("no description");
            return Err(bad(&format_args!("answered {status}: {code} ({said})")));
        }
        let token = text("access_token").filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| bad(&"answered without an access_token"))?;
        // Some write the number as text.
        let life = answer.get("expires_in");
        let life = life.and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
        let life = life.map(|seconds| Duration::from_secs(seconds.min(LIFE_S_MAX)));
        Ok(Token { text: token.into(), valid_until: life.map(|life| asked_at + life) })
    }
}

/// How long a token is used whose end is `left` away.
fn usable(left: Duration) -> Duration {
    left.saturating_sub(MARGIN).max(left * 9 / 10)
}

/// `application/x-www-form-urlencoded`.
fn form_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

impl TokenSource for ClientCredentials {
    fn token(&self) -> Result<Token, AuthError> {
        let asked_at = Instant::now();
        // Held during the request, so that a thousand sessions make one.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(token) =
            kept.token.as_ref().filter(|token| token.valid_until.is_some_and(|end| now < end))
        {
            return Ok(token.clone());
        }
        if let Some((_, error)) = kept.failure.as_ref().filter(|(at, _)| *at >= asked_at) {
            return Err(error.clone());
        }
        match self.fetch() {
            Ok(mut token) => {
                token.valid_until =
                    token.valid_until.map(|end| now + usable(end.saturating_duration_since(now)));
                *kept = Kept { token: Some(token.clone()), failure: None };
                Ok(token)
            }
            Err(error) => {
                *kept = Kept { token: None, failure: Some((Instant::now(), error.clone())) };
                Err(error)
            }
        }
    }
}

impl CredentialsProvider for ClientCredentials {
    fn credentials(&self) -> Result<Credentials, AuthError> {
        Ok(Credentials { user: None, password: Some(self.token()?.text.into()) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A token endpoint that answers each request with the next of these, and gives the requests back at the end:
    /// the Authorization header, and the body.
    fn endpoint(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<(String, String)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/token", listener.local_addr().unwrap());
        let serve = move || answers.into_iter().map(|answer| one(&listener, &answer)).collect();
        (address, std::thread::spawn(serve))
    }

    fn one(listener: &TcpListener, (status, body): &(u16, String)) -> (String, String) {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let (mut authorization, mut length) = (String::new(), 0);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("POST /token HTTP/1.1"), "{line}");
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.trim_end().split_once(": ").unwrap();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = value.into(),
                "content-length" => length = value.parse().unwrap(),
                "transfer-encoding" => panic!("a form has a length"),
                _ => {}
            }
        }
        let mut form = vec![0; length];
        reader.read_exact(&mut form).unwrap();
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
        (authorization, String::from_utf8(form).unwrap())
    }

    fn token(name: &str, life_s: u64) -> (u16, String) {
        (200, format!(r#"{{"access_token":"{name}","token_type":"Bearer","expires_in":{life_s}}}"#))
    }

    #[test]
    fn a_token_is_kept_until_it_ends() {
        // The first one's life is over when it comes.
        let (address, server) = endpoint(vec![token("a", 0), token("b", 3600)]);
        let source = ClientCredentials::new(&address, "id", "s:e c").unwrap().scope("mqtt all");
        assert_eq!(source.token().unwrap().text, "a");
        for _ in 0..3 {
            // A third request would find nobody.
            assert_eq!(source.clone().token().unwrap().text, "b");
        }
        assert_eq!(source.credentials().unwrap().password.unwrap(), "b");
        let basic = format!("Basic {}", BASE64.encode("id:s%3Ae+c"));
        let form = "grant_type=client_credentials&scope=mqtt+all";
        for (authorization, body) in server.join().unwrap() {
            assert_eq!(authorization, basic);
            assert_eq!(body.replace("%20", "+"), form);
        }
    }

    #[test]
    fn it_is_renewed_shortly_before() {
        let seconds = Duration::from_secs;
        for (left, used) in [(3600, 3570), (300, 270), (100, 90), (10, 9), (0, 0)] {
            assert_eq!(usable(seconds(left)), seconds(used));
        }
    }

    #[test]
    fn a_secret_in_the_body() {
        let (address, server) = endpoint(vec![token("a", 60)]);
        let source = ClientCredentials::new(&address, "id", "secret").unwrap();
        source.secret_in_body().parameter("audience", "broker").token().unwrap();
        let form = "grant_type=client_credentials&audience=broker&client_id=id&client_secret=secret";
        assert_eq!(server.join().unwrap(), [(String::new(), form.to_string())]);
    }

    #[test]
    fn sessions_share_one_request() {
        let (address, server) = endpoint(vec![token("a", 3600)]);
        let source = ClientCredentials::new(&address, "id", "secret").unwrap();
        let ask = || source.token().unwrap().text;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            assert!(threads.into_iter().all(|thread| thread.join().unwrap() == "a"));
        });
        assert_eq!(server.join().unwrap().len(), 1);
    }

    #[test]
    fn bad_answers() {
        let answers = [
            (401, r#"{"error":"invalid_client","error_description":"who?"}"#, "invalid_client (who?)"),
            (500, "oops", "answered 500 Internal Server Error, and what is no JSON"),
            (302, "{}", "answered 302"),
            (200, "{}", "without an access_token"),
            (200, r#"{"access_token":""}"#, "without an access_token"),
            (200, "<html>", "no JSON"),
        ];
        let (address, server) = endpoint(answers.map(|(status, body, _)| (status, body.into())).into());
        let source = ClientCredentials::new(&address, "id", "secret").unwrap();
        for (_, body, why) in answers {
            let error = source.token().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&address), "{body}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        server.join().unwrap();
        // Nobody listens any more.
        source.token().expect_err("no connection");
    }

    #[test]
    fn endpoints_that_are_not_accepted() {
        for (endpoint, why) in [
            ("http://auth.example/token", "use https"),
            ("http://127.example.com.evil/token", "use https"),
            ("ftp://auth.example", "write it as https://"),
            ("auth.example", "write it as https://"),
            ("", "write it as https://"),
        ] {
            let error = ClientCredentials::new(endpoint, "id", "s").unwrap_err().to_string();
            assert!(error.contains(why), "{endpoint}: {error}");
        }
        let source = ClientCredentials::new("https://auth.example/token", "id", "secret").unwrap();
        assert!(!format!("{source:?}").contains("secret"));
        let error = source.ca_file("/nowhere").unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }
}

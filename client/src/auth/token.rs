//! Tokens that stand for a password: JSON Web Tokens, access tokens of OAuth2.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::plain::OneMessage;
use super::{AuthError, Authenticator, Credentials, CredentialsProvider, Exchange};

/// Largest file that is read as a token or password, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A token, and when it ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What is sent.
    pub text: String,
    /// Not used any more from then on; none: nobody said.
    pub valid_until: Option<Instant>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("valid_until", &self.valid_until).finish_non_exhaustive()
    }
}

impl Token {
    /// A token whose end is not known.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), valid_until: None }
    }
}

/// Where tokens come from. Called on a thread where it may block, once for each connection.
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// A token that is valid now.
    fn token(&self) -> Result<Token, AuthError>;
}

/// The same token each time.
impl TokenSource for Token {
    fn token(&self) -> Result<Token, AuthError> {
        match self.valid_until {
            Some(end) if end <= Instant::now() => {
                Err(AuthError::new("the token has ended: give one that is valid, or a source that renews it"))
            }
            Some(_) | None => Ok(self.clone()),
        }
    }
}

/// A token in a file that something else renews; read anew each time. White space around it does not count.
#[derive(Clone, Debug)]
pub struct TokenFile(pub PathBuf);

impl TokenSource for TokenFile {
    fn token(&self) -> Result<Token, AuthError> {
        read_secret(&self.0).map(Token::new)
    }
}

/// The text of a file, without white space around it.
pub(super) fn read_secret(path: &std::path::Path) -> Result<String, AuthError> {
    let bad = |why: &dyn fmt::Display| AuthError(format!("{}: {why}", path.display()));
    // Looked at first, so that a device or a huge file by mistake does not fill the memory.
    let length = std::fs::metadata(path).map_err(|error| bad(&error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(bad(&format_args!(
            "has {length} bytes, more than the {FILE_BYTES_MAX} of a token or password"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| bad(&error))?;
    let text = text.trim();
    if text.is_empty() { Err(bad(&"is empty: put the token or password into it")) } else { Ok(text.into()) }
}

/// Tokens from a function of the program's.
pub struct TokenFn<F>(pub F);

impl<F> fmt::Debug for TokenFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenFn")
    }
}

impl<F: Fn() -> Result<Token, AuthError> + Send + Sync> TokenSource for TokenFn<F> {
    fn token(&self) -> Result<Token, AuthError> {
        (self.0)()
    }
}

/// A token as Authentication Data of MQTT 5's enhanced authentication.
///
/// The source may wait for a network, which an I/O thread must not. So a session is given it twice: as its
/// [`CredentialsProvider`], which asks the source before each connection and yields no user name or password, and as
/// its [`Authenticator`], which sends what was got. Clones share the token.
///
/// Before a re-authentication call [`Bearer::refresh`], which asks the source too.
#[derive(Clone)]
pub struct Bearer {
    method: Box<str>,
    source: Arc<dyn TokenSource>,
    last: Arc<Mutex<Option<Token>>>,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer")
            .field("method", &self.method)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Bearer {
    /// Tokens of this source, under the Authentication Method `JWT`. No standard names one: see
    /// [`Bearer::method_name`].
    pub fn new(source: impl TokenSource + 'static) -> Self {
        Self { method: "JWT".into(), source: Arc::new(source), last: Arc::default() }
    }

    /// The Authentication Method that the broker knows this by.
    #[must_use]
    pub fn method_name(mut self, name: &str) -> Self {
        self.method = name.into();
        self
    }

    /// Asks the source for a token, which the next exchange sends. Blocks as long as the source does.
    pub fn refresh(&self) -> Result<(), AuthError> {
        let token = self.source.token()?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }
}

impl CredentialsProvider for Bearer {
    fn credentials(&self) -> Result<Credentials, AuthError> {
        self.refresh()?;
        Ok(Credentials::default())
    }
}

impl Authenticator for Bearer {
    fn method(&self) -> &str {
        &self.method
    }

    fn begin(&self) -> Box<dyn Exchange> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message = match last {
            Some(token) => token.token().map(|token| token.text.into_bytes()),
            None => Err(AuthError::new(
                "no token is at hand: make the Bearer the session's credentials provider too, or call refresh",
            )),
        };
        Box::new(OneMessage { method: self.method.clone(), message })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bearer_sends_the_token_of_the_last_refresh() {
        let count = AtomicU32::new(0);
        let source = TokenFn(move || Ok(Token::new(format!("t{}", count.fetch_add(1, Ordering::Relaxed)))));
        let bearer = Bearer::new(source).method_name("K8S-SAT");
        assert_eq!(bearer.method(), "K8S-SAT");
        let error = bearer.begin().first().unwrap_err().to_string();
        assert!(error.contains("call refresh"), "{error}");
        for expected in ["t0", "t1"] {
            assert_eq!(bearer.credentials().unwrap(), Credentials::default());
            let mut exchange = bearer.begin();
            assert_eq!(exchange.first().unwrap().unwrap(), expected.as_bytes());
            exchange.accepted(None).unwrap();
        }
    }

    #[test]
    fn a_token_that_has_ended_is_not_sent() {
        let now = Instant::now();
        let token = |valid_until| Token { text: "t".into(), valid_until };
        token(Some(now + Duration::from_secs(60))).token().unwrap();
        let error = token(Some(now)).token().unwrap_err().to_string();
        assert!(error.contains("has ended"), "{error}");
        assert!(!format!("{:?}", Token::new("secret")).contains("secret"));

        let bearer = Bearer::new(TokenFn(move || Ok(Token { text: "t".into(), valid_until: Some(now) })));
        bearer.refresh().unwrap();
        bearer.begin().first().expect_err("ended");
    }

    #[test]
    fn a_source_that_fails_fails_the_connection() {
        let bearer = Bearer::new(TokenFn(|| Err(AuthError("vault sealed".into()))));
        assert_eq!(bearer.credentials().unwrap_err().to_string(), "vault sealed");
    }
}

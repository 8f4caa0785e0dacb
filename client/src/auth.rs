//! Who a session says it is.

mod credentials;
#[cfg(feature = "oauth2")]
mod oauth2;
mod plain;
mod scram;
mod token;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use credentials::{CredentialsFn, PasswordFile, TokenPassword};
#[cfg(feature = "oauth2")]
pub use oauth2::ClientCredentials;
pub use plain::Plain;
pub use scram::ScramSha256;
pub use token::{Bearer, Token, TokenFile, TokenFn, TokenSource};

/// Why an authentication cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthError(pub String);

impl AuthError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// User name and password of a CONNECT.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub user: Option<String>,
    /// The password, which MQTT allows to be any bytes.
    pub password: Option<Bytes>,
}

impl Credentials {
    /// A user name and a password, text or any bytes.
    pub fn new(user: impl Into<String>, password: impl Into<Bytes>) -> Self {
        Self { user: Some(user.into()), password: Some(password.into()) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("Credentials").field("user", &self.user).field("password", &password).finish()
    }
}

/// Gives user name and password anew for every connection: tokens that expire, secrets that rotate.
///
/// Called on a thread where it may block, never on an I/O thread. What it takes counts against the session's
/// connect timeout.
pub trait CredentialsProvider: Send + Sync + fmt::Debug {
    /// The credentials for the next connection.
    fn credentials(&self) -> Result<Credentials, AuthError>;
}

/// A method of MQTT 5's enhanced authentication, section 4.12.
///
/// Called on the I/O thread: it must compute, not wait.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// The Authentication Method.
    fn method(&self) -> &str;

    /// Begins an exchange: one for each connection, and for each re-authentication.
    fn begin(&self) -> Box<dyn Exchange>;
}

/// One exchange of [`Authenticator`].
pub trait Exchange: Send + fmt::Debug {
    /// Authentication Data of the CONNECT, or of the AUTH that begins a re-authentication.
    fn first(&mut self) -> Result<Option<Vec<u8>>, AuthError>;

    /// What to answer to an AUTH of the server.
    fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, AuthError>;

    /// The server accepts, with this Authentication Data. An error ends the connection: the server did not
    /// prove itself.
    fn accepted(&mut self, data: Option<&[u8]>) -> Result<(), AuthError>;
}

/// Where a session's user name and password come from.
#[derive(Clone, Debug, Default)]
pub(crate) enum CredentialsSource {
    #[default]
    None,
    Fixed(Box<Credentials>),
    Provider(Arc<dyn CredentialsProvider>),
}

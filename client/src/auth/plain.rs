//! The SASL mechanism PLAIN, RFC 4616.

use std::fmt;

use super::{AuthError, Authenticator, Exchange};

/// PLAIN: user name and password in one message. For connections that TLS protects.
#[derive(Clone)]
pub struct Plain {
    /// `authzid NUL authcid NUL passwd`.
    message: Vec<u8>,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl Plain {
    /// For this user. Neither may be empty or hold a null character.
    pub fn new(user: &str, password: &str) -> Result<Self, AuthError> {
        Self::acting_as("", user, password)
    }

    /// The same, asking to act as `identity` (SASL's authorization identity) instead of as the user.
    pub fn acting_as(identity: &str, user: &str, password: &str) -> Result<Self, AuthError> {
        if user.is_empty() || password.is_empty() {
            return Err(AuthError::new("PLAIN needs a user name and a password: give both"));
        }
        if [identity, user, password].iter().any(|part| part.contains('\0')) {
            return Err(AuthError::new(
                "PLAIN cannot carry a null character: take it out of the user name, identity or password",
            ));
        }
        Ok(Self { message: [identity, user, password].join("\0").into_bytes() })
    }
}

impl Authenticator for Plain {
    fn method(&self) -> &str {
        "PLAIN"
    }

    fn begin(&self) -> Box<dyn Exchange> {
        Box::new(OneMessage { method: "PLAIN".into(), message: Ok(self.message.clone()) })
    }
}

/// An exchange in which everything is said at once, and the server answers yes or no.
pub(super) struct OneMessage {
    pub method: Box<str>,
    pub message: Result<Vec<u8>, AuthError>,
}

impl fmt::Debug for OneMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneMessage").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Exchange for OneMessage {
    fn first(&mut self) -> Result<Option<Vec<u8>>, AuthError> {
        self.message.clone().map(Some)
    }

    fn answer(&mut self, _: &[u8]) -> Result<Option<Vec<u8>>, AuthError> {
        Err(AuthError(format!("the server asks on, but {} has said everything at once", self.method)))
    }

    fn accepted(&mut self, _: Option<&[u8]>) -> Result<(), AuthError> {
        // The mechanism has nothing by which a server could prove itself: TLS does that.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_everything_at_once() {
        // RFC 4616, section 4.
        let mut exchange = Plain::new("tim", "tanstaaftanstaaf").unwrap().begin();
        assert_eq!(exchange.first().unwrap().unwrap(), b"\0tim\0tanstaaftanstaaf");
        exchange.accepted(None).unwrap();

        let plain = Plain::acting_as("Ursel", "Kurt", "xipj3plmq").unwrap();
        assert_eq!(plain.begin().first().unwrap().unwrap(), b"Ursel\0Kurt\0xipj3plmq");
        let error = plain.begin().answer(b"more").unwrap_err().to_string();
        assert!(error.contains("PLAIN has said everything"), "{error}");
    }

    #[test]
    fn what_it_cannot_carry_is_an_error() {
        for (user, password) in [("", "p"), ("u", ""), ("u\0x", "p"), ("u", "p\0")] {
            Plain::new(user, password).expect_err("not accepted");
        }
        assert!(!format!("{:?}", Plain::new("u", "secret").unwrap()).contains("secret"));
    }
}

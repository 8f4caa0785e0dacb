//! Providers of user name and password.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::token::{TokenSource, read_secret};
use super::{AuthError, Credentials, CredentialsProvider};

/// A token in the place of the password, as most brokers that know tokens have it.
#[derive(Clone, Debug)]
pub struct TokenPassword {
    user: Option<String>,
    source: Arc<dyn TokenSource>,
}

impl TokenPassword {
    /// Tokens of this source, without a user name.
    pub fn new(source: impl TokenSource + 'static) -> Self {
        Self { user: None, source: Arc::new(source) }
    }

    /// With this user name.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }
}

impl CredentialsProvider for TokenPassword {
    fn credentials(&self) -> Result<Credentials, AuthError> {
        let token = self.source.token()?;
        Ok(Credentials { user: self.user.clone(), password: Some(token.text.into()) })
    }
}

/// A user name, and a password in a file, which is read anew for each connection. White space around the password does
/// not count.
#[derive(Clone, Debug)]
pub struct PasswordFile {
    /// The user name.
    pub user: String,
    /// The file with the password and nothing else.
    pub path: PathBuf,
}

impl CredentialsProvider for PasswordFile {
    fn credentials(&self) -> Result<Credentials, AuthError> {
        let password = read_secret(&self.path)?;
        Ok(Credentials { user: Some(self.user.clone()), password: Some(password.into()) })
    }
}

/// Credentials from a function of the program's.
pub struct CredentialsFn<F>(pub F);

impl<F> fmt::Debug for CredentialsFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsFn")
    }
}

impl<F: Fn() -> Result<Credentials, AuthError> + Send + Sync> CredentialsProvider for CredentialsFn<F> {
    fn credentials(&self) -> Result<Credentials, AuthError> {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::{Token, TokenFile};
    use super::*;

    /// A file that is gone when this is.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("ringmq-{}-{name}", std::process::id())))
        }

        fn write(&self, text: &[u8]) {
            std::fs::write(&self.0, text).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_is_read_anew_each_time() {
        let file = Scratch::new("credentials");
        let password = PasswordFile { user: "u".into(), path: file.0.clone() };
        let token = TokenPassword::new(TokenFile(file.0.clone())).user("t");
        let error = password.credentials().unwrap_err().to_string();
        assert!(error.contains("ringmq-") && error.contains("No such file"), "{error}");
        for secret in ["first", "second"] {
            file.write(format!(" {secret}\n").as_bytes());
            let expected =
                |user: &str| Credentials { user: Some(user.into()), password: Some(secret.into()) };
            assert_eq!(password.credentials().unwrap(), expected("u"));
            assert_eq!(token.credentials().unwrap(), expected("t"));
        }
        for (bad, why) in
            [(&b" \n"[..], "is empty"), (b"\xff", "UTF-8"), (&[b'x'; 70_000], "has 70000 bytes")]
        {
            file.write(bad);
            let error = token.credentials().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn others() {
        let fixed = TokenPassword::new(Token::new("abc"));
        assert_eq!(fixed.credentials().unwrap(), Credentials { user: None, password: Some("abc".into()) });
        let function = CredentialsFn(|| Ok(Credentials { user: Some("f".into()), password: None }));
        assert_eq!(function.credentials().unwrap().user.as_deref(), Some("f"));
    }
}

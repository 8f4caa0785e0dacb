//! The SASL mechanism SCRAM-SHA-256, RFC 5802 and RFC 7677, without channel binding.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{AuthError, Authenticator, Exchange};

/// RFC 7677 section 4: fewer would make a stolen exchange cheap to search.
const ITERATIONS_MIN: u32 = 4_096;

/// Unless told otherwise. A server asks for the work, and an I/O thread does it: this many take some 50 ms.
const ITERATIONS_MAX: u32 = 100_000;

/// Longest message of a server that is looked at, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// No channel binding, and no wish to act as somebody else.
const GS2_HEADER: &str = "n,,";

type Key = [u8; 32];

/// What follows from the password, a salt and an iteration count.
#[derive(Clone)]
struct Keys {
    salt: Vec<u8>,
    iterations: u32,
    client: Key,
    server: Key,
}

/// SCRAM-SHA-256: the password never crosses the wire, and the server proves that it knows it too.
///
/// The keys that a salt and an iteration count give are computed on the I/O thread, once: they are kept for the next
/// exchange. Clones share them.
#[derive(Clone)]
pub struct ScramSha256 {
    user: Box<str>,
    password: Arc<str>,
    iterations_max: u32,
    keys: Arc<Mutex<Option<Keys>>>,
}

impl fmt::Debug for ScramSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramSha256").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ScramSha256 {
    /// For this user. Both are prepared as RFC 4013 (SASLprep) has it, and may not be empty then.
    pub fn new(user: &str, password: &str) -> Result<Self, AuthError> {
        let (user, password) = (prepare("user name", user)?, prepare("password", password)?);
        let keys = Arc::default();
        Ok(Self { user: user.into(), password: password.into(), iterations_max: ITERATIONS_MAX, keys })
    }

    /// Accepts servers that ask for up to so many iterations. Default 100,000, at least 4,096.
    #[must_use]
    pub fn iterations_max(mut self, iterations: u32) -> Self {
        self.iterations_max = iterations.max(ITERATIONS_MIN);
        self
    }

    /// The keys of this salt and iteration count: those of the last exchange, mostly.
    fn keys(&self, salt: Vec<u8>, iterations: u32) -> Keys {
        // Held while they are computed, so that sessions that share them do so once.
        let mut kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = kept.as_ref().filter(|keys| keys.iterations == iterations && keys.salt == salt) {
            return keys.clone();
        }
        let password = self.password.as_bytes();
        let salted: Key = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, &salt, iterations);
        let client = sign(&salted, b"Client Key");
        let server = sign(&salted, b"Server Key");
        let keys = Keys { salt, iterations, client, server };
        *kept = Some(keys.clone());
        keys
    }

    fn with_nonce(&self, nonce: String) -> Scram {
        let user = self.user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        Scram { settings: self.clone(), nonce, first_bare, step: Step::Begun }
    }
}

/// SASLprep, RFC 4013.
fn prepare(what: &str, text: &str) -> Result<String, AuthError> {
    let prepared = stringprep::saslprep(text)
        .map_err(|error| AuthError(format!("the {what} holds what SASLprep forbids: {error}")))?;
    if prepared.is_empty() {
        return Err(AuthError(format!("SCRAM-SHA-256 needs a {what}: it is empty")));
    }
    Ok(prepared.into_owned())
}

fn mac(key: &Key, text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac
}

fn sign(key: &Key, text: &[u8]) -> Key {
    mac(key, text).finalize().into_bytes().into()
}

impl Authenticator for ScramSha256 {
    fn method(&self) -> &str {
        "SCRAM-SHA-256"
    }

    fn begin(&self) -> Box<dyn Exchange> {
        let mut random = [0; 18];
        match getrandom::fill(&mut random) {
            Ok(()) => Box::new(self.with_nonce(BASE64.encode(random))),
            Err(error) => {
                let why = AuthError(format!("the system gave no random bytes for a nonce: {error}"));
                Box::new(super::plain::OneMessage { method: self.method().into(), message: Err(why) })
            }
        }
    }
}

enum Step {
    /// The client's first message is still to be answered.
    Begun,
    /// The proof was given; the server's is awaited: the signature of this with its key.
    Proved { auth_message: String, server: Key },
    /// The server proved itself.
    Verified,
    /// Something was wrong: nothing more is accepted.
    Failed,
}

struct Scram {
    settings: ScramSha256,
    nonce: String,
    first_bare: String,
    step: Step,
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").field("user", &self.settings.user).finish_non_exhaustive()
    }
}

impl Exchange for Scram {
    fn first(&mut self) -> Result<Option<Vec<u8>>, AuthError> {
        Ok(Some(format!("{GS2_HEADER}{}", self.first_bare).into_bytes()))
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, AuthError> {
        match std::mem::replace(&mut self.step, Step::Failed) {
            Step::Begun => self.prove(challenge).map(Some),
            Step::Proved { auth_message, server } => {
                // Some servers say their last word before they accept.
                verify(challenge, &auth_message, &server)?;
                self.step = Step::Verified;
                Ok(None)
            }
            Step::Verified | Step::Failed => {
                Err(AuthError::new("the server asks on after the exchange is over"))
            }
        }
    }

    fn accepted(&mut self, data: Option<&[u8]>) -> Result<(), AuthError> {
        match std::mem::replace(&mut self.step, Step::Failed) {
            Step::Proved { auth_message, server } => match data {
                Some(data) => verify(data, &auth_message, &server)?,
                None => return Err(unproven()),
            },
            Step::Verified => {}
            Step::Begun | Step::Failed => return Err(unproven()),
        }
        self.step = Step::Verified;
        Ok(())
    }
}

fn unproven() -> AuthError {
    AuthError::new("the server accepted without proving that it knows the password")
}

impl Scram {
    /// The server's first message is answered with the proof.
    fn prove(&mut self, challenge: &[u8]) -> Result<Vec<u8>, AuthError> {
        let server_first = text(challenge)?;
        let first = ServerFirst::parse(server_first)?;
        if !first.nonce.starts_with(&self.nonce) || first.nonce.len() == self.nonce.len() {
            return Err(AuthError::new("the server's nonce does not continue ours"));
        }
        let (min, max) = (ITERATIONS_MIN, self.settings.iterations_max);
        if first.iterations < min || first.iterations > max {
            return Err(AuthError(format!(
                "the server asks for {} iterations, where {min} to {max} are accepted: change the server's \
                 setting, or raise iterations_max",
                first.iterations
            )));
        }
        let keys = self.settings.keys(first.salt, first.iterations);
        let without_proof = format!("c={},r={}", BASE64.encode(GS2_HEADER), first.nonce);
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let stored: Key = Sha256::digest(keys.client).into();
        let signature = sign(&stored, auth_message.as_bytes());
        let proof: Vec<u8> = keys.client.iter().zip(signature).map(|(key, signed)| key ^ signed).collect();
        self.step = Step::Proved { auth_message, server: keys.server };
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }
}

/// A message of the server as text.
fn text(message: &[u8]) -> Result<&str, AuthError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(AuthError(format!("the server's message has more than {MESSAGE_BYTES_MAX} bytes")));
    }
    std::str::from_utf8(message).map_err(|_| AuthError::new("the server's message is no UTF-8 text"))
}

struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn parse(message: &'a str) -> Result<Self, AuthError> {
        let bad =
            |what: &str| AuthError(format!("the server's first message has no good {what}: {message:?}"));
        if message.starts_with("m=") {
            return Err(AuthError::new("the server requires an extension of SCRAM that is not known here"));
        }
        if let Some(why) = message.strip_prefix("e=") {
            return Err(AuthError(format!("the server says: {why}")));
        }
        // Whatever follows the three are extensions, to be ignored.
        let mut parts = message.split(',');
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or_else(|| bad("nonce"))?;
        let salt = parts.next().and_then(|part| part.strip_prefix("s=")).ok_or_else(|| bad("salt"))?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty()).ok_or_else(|| bad("salt"))?;
        let iterations = parts.next().and_then(|part| part.strip_prefix("i="));
        let iterations =
            iterations.and_then(|count| count.parse().ok()).ok_or_else(|| bad("iteration count"))?;
        Ok(Self { nonce, salt, iterations })
    }
}

/// Whether the server's last message proves that it knows the password's keys.
fn verify(message: &[u8], auth_message: &str, server: &Key) -> Result<(), AuthError> {
    let message = text(message)?;
    if let Some(why) = message.strip_prefix("e=") {
        return Err(AuthError(format!("the server says: {why}")));
    }
    let verifier = message.strip_prefix("v=").and_then(|rest| rest.split(',').next());
    let signature = verifier.and_then(|verifier| BASE64.decode(verifier).ok());
    let signature = signature
        .ok_or_else(|| AuthError(format!("the server's last message has no good signature: {message:?}")))?;
    mac(server, auth_message.as_bytes())
        .verify_slice(&signature)
        .map_err(|_| AuthError::new("the server's signature is wrong: it does not know the password"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn begun() -> Scram {
        ScramSha256::new("user", "pencil").unwrap().with_nonce(NONCE.into())
    }

    fn proved() -> Scram {
        let mut exchange = begun();
        assert_eq!(exchange.first().unwrap().unwrap(), CLIENT_FIRST.as_bytes());
        let answer = exchange.answer(SERVER_FIRST.as_bytes()).unwrap().unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), CLIENT_FINAL);
        exchange
    }

    #[test]
    fn the_example_of_the_rfc() {
        proved().accepted(Some(SERVER_FINAL.as_bytes())).unwrap();
        // The server's last word may come in an AUTH of its own.
        let mut exchange = proved();
        assert_eq!(exchange.answer(SERVER_FINAL.as_bytes()).unwrap(), None);
        exchange.accepted(None).unwrap();
    }

    #[test]
    fn a_server_that_does_not_prove_itself_is_refused() {
        let wrong = format!("v={}", BASE64.encode([7; 32]));
        for (last, why) in [
            (Some(wrong.as_str()), "does not know the password"),
            (Some("v=!"), "no good signature"),
            (Some("x"), "no good signature"),
            (Some("e=invalid-proof"), "the server says: invalid-proof"),
            (None, "without proving"),
        ] {
            let mut exchange = proved();
            let error = exchange.accepted(last.map(str::as_bytes)).unwrap_err().to_string();
            assert!(error.contains(why), "{last:?}: {error}");
            // And it gets no second try.
            exchange.accepted(Some(SERVER_FINAL.as_bytes())).unwrap_err();
        }
        begun().accepted(Some(SERVER_FINAL.as_bytes())).unwrap_err();
        begun().accepted(None).unwrap_err();
    }

    #[test]
    fn first_messages_of_a_server() {
        let nonce = "rOprNGfwEbeRWgbNEkqOx";
        for (message, why) in [
            (String::new(), "no good nonce"),
            ("r=other,s=W22Z,i=4096".into(), "does not continue ours"),
            (format!("r={NONCE},s=W22Z,i=4096"), "does not continue ours"),
            (format!("r={nonce},i=4096"), "no good salt"),
            (format!("r={nonce},s=,i=4096"), "no good salt"),
            (format!("r={nonce},s=?,i=4096"), "no good salt"),
            (format!("r={nonce},s=W22Z"), "no good iteration count"),
            (format!("r={nonce},s=W22Z,i=-1"), "no good iteration count"),
            (format!("r={nonce},s=W22Z,i=4095"), "4096 to 100000 are accepted"),
            (format!("r={nonce},s=W22Z,i=100001"), "raise iterations_max"),
            (format!("m=x,r={nonce},s=W22Z,i=4096"), "extension"),
            ("e=unknown-user".into(), "the server says: unknown-user"),
            ("x".repeat(5_000), "more than 4096 bytes"),
        ] {
            let error = begun().answer(message.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{message:?}: {error}");
        }
        begun().answer(b"\xff").expect_err("no text");
        // Extensions after the three are let be.
        begun().answer(format!("r={nonce},s=W22Z,i=4096,x=y").as_bytes()).unwrap();
    }

    #[test]
    fn names_and_passwords_are_prepared() {
        let scram = ScramSha256::new("a,b=c", "pencil").unwrap();
        let first = scram.with_nonce("r".into()).first().unwrap().unwrap();
        assert_eq!(String::from_utf8(first).unwrap(), "n,,n=a=2Cb=3Dc,r=r");
        // RFC 4013, section 3: a soft hyphen vanishes, and IX is one character's compatible form.
        assert_eq!(&*ScramSha256::new("u", "I\u{ad}X").unwrap().password, "IX");
        assert_eq!(&*ScramSha256::new("u", "\u{2168}").unwrap().password, "IX");
        for (user, password) in [("", "p"), ("u", ""), ("u", "\u{7}"), ("u", "\u{ad}")] {
            ScramSha256::new(user, password).expect_err("not accepted");
        }
        assert!(!format!("{:?}", ScramSha256::new("u", "secret").unwrap()).contains("secret"));
    }

    #[test]
    fn keys_are_computed_once() {
        let scram = ScramSha256::new("user", "pencil").unwrap().iterations_max(1_000_000);
        let challenge = |exchange: &Scram| format!("r={}s,s=W22Z,i=4096", exchange.nonce);
        let mut first = scram.with_nonce("a".into());
        first.answer(challenge(&first).as_bytes()).unwrap();
        // Other keys than the password gives, to see that they are those that are used.
        scram.keys.lock().unwrap().as_mut().unwrap().server = [1; 32];
        let mut second = scram.clone().with_nonce("b".into());
        second.answer(challenge(&second).as_bytes()).unwrap();
        assert!(matches!(second.step, Step::Proved { server, .. } if server == [1; 32]));
        // Another salt has others.
        let mut third = scram.with_nonce("c".into());
        third.answer(b"r=cs,s=AAAA,i=4096").unwrap();
        assert!(matches!(third.step, Step::Proved { server, .. } if server != [1; 32]));
    }

    #[test]
    fn nonces_differ() {
        let scram = ScramSha256::new("user", "pencil").unwrap();
        assert_ne!(scram.begin().first().unwrap(), scram.begin().first().unwrap());
    }
}

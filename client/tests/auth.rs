//! Enhanced authentication and providers of credentials, against a broker's side that this test plays: CONNECT, AUTH
//! and CONNACK over a real socket.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use ringmq_client::auth::{Bearer, PasswordFile, Plain, ScramSha256, Token, TokenFn, TokenPassword};
use ringmq_client::{ConnectError, Error, Manager, ReasonCode, Session, SessionBuilder, Version};
use ringmq_codec::{Auth, ConnAck, Decoded, Packet, frame};
use sha2::{Digest, Sha256};

const SECONDS: Duration = Duration::from_secs(30);
const V5: Version = Version::V5;

/// One connection of a client, from the broker's side.
struct Peer {
    stream: TcpStream,
    bytes: Vec<u8>,
    method: String,
}

/// What a client says in an exchange.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Connect { method: Option<String>, data: Vec<u8>, user: Option<String>, password: Vec<u8> },
    Auth { reason: ReasonCode, data: Vec<u8> },
    Disconnect(ReasonCode),
    Closed,
}

impl Peer {
    fn next(&mut self) -> Said {
        loop {
            if let Decoded::Complete(frame) = frame(&self.bytes, 1 << 20).unwrap() {
                let said = match Packet::decode(V5, &frame).unwrap() {
                    Packet::Connect(connect) => Said::Connect {
                        method: connect.properties.authentication_method.map(str::to_owned),
                        data: connect.properties.authentication_data.unwrap_or_default().to_vec(),
                        user: connect.username.map(str::to_owned),
                        password: connect.password.unwrap_or_default().to_vec(),
                    },
                    Packet::Auth(auth) => {
                        assert_eq!(auth.method, Some(&*self.method), "the method stays [MQTT-4.12.0-5]");
                        Said::Auth { reason: auth.reason, data: auth.data.unwrap_or_default().to_vec() }
                    }
                    Packet::Disconnect(disconnect) => Said::Disconnect(disconnect.reason),
                    other => panic!("{other:?}"),
                };
                self.bytes.drain(..frame.total);
                if let Said::Connect { method: Some(method), .. } = &said {
                    self.method = method.clone();
                }
                return said;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Said::Closed,
                Ok(got) => self.bytes.extend_from_slice(&buffer[..got]),
            }
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut out = Vec::new();
        packet.encode(V5, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    fn auth(&mut self, reason: ReasonCode, data: &[u8]) {
        let method = self.method.clone();
        self.send(&Packet::Auth(Auth { method: Some(&method), data: Some(data), ..Auth::new(reason) }));
    }

    fn connack(&mut self, reason: ReasonCode, data: Option<&[u8]>) {
        let method = self.method.clone();
        let mut connack = ConnAck::new(reason);
        connack.properties.authentication_method = Some(&*method).filter(|method| !method.is_empty());
        connack.properties.authentication_data = data;
        self.send(&Packet::ConnAck(connack));
    }
}

/// A broker that plays this with each connection in turn.
fn broker<T: Send + 'static>(
    connections: usize,
    play: impl Fn(&mut Peer) -> T + Send + 'static,
) -> (String, JoinHandle<Vec<T>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("mqtt://{}", listener.local_addr().unwrap());
    let serve = move || {
        let one = |_| {
            let (stream, _) = listener.accept().unwrap();
            play(&mut Peer { stream, bytes: Vec::new(), method: String::new() })
        };
        (0..connections).map(one).collect()
    };
    (address, std::thread::spawn(serve))
}

fn builder(address: &str) -> SessionBuilder {
    SessionBuilder::quick("s", address).no_reconnect()
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

const SALT: &[u8] = b"some salt";

/// The server's side of SCRAM-SHA-256, without what a client must not rely on. Its first message and what it says
/// last, if the client's proof is right.
fn scram(password: &str, client_first: &[u8], ask: impl FnOnce(&str) -> Vec<u8>) -> Option<String> {
    let bare = std::str::from_utf8(client_first).unwrap().strip_prefix("n,,").unwrap().to_owned();
    let nonce = bare.split_once(",r=").unwrap().1;
    let server_first = format!("r={nonce}SERVER,s={},i=4096", BASE64.encode(SALT));
    let client_final = String::from_utf8(ask(&server_first)).unwrap();
    let (without_proof, proof) = client_final.split_once(",p=").unwrap();
    assert_eq!(without_proof, format!("c=biws,r={nonce}SERVER"));
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), SALT, 4096);
    let stored = Sha256::digest(hmac(&salted, b"Client Key"));
    let text = format!("{bare},{server_first},{without_proof}");
    let signature = hmac(&stored, text.as_bytes());
    let client_key: Vec<u8> =
        BASE64.decode(proof).unwrap().iter().zip(signature).map(|(p, s)| p ^ s).collect();
    let is_right = Sha256::digest(client_key) == stored;
    is_right.then(|| format!("v={}", BASE64.encode(hmac(&hmac(&salted, b"Server Key"), text.as_bytes()))))
}

fn connect_data(said: Said) -> Vec<u8> {
    match said {
        Said::Connect { method: Some(_), data, .. } => data,
        other => panic!("{other:?}"),
    }
}

fn continued(peer: &mut Peer, data: &[u8]) -> Vec<u8> {
    peer.auth(ReasonCode::ContinueAuthentication, data);
    match peer.next() {
        Said::Auth { reason: ReasonCode::ContinueAuthentication, data } => data,
        other => panic!("{other:?}"),
    }
}

fn failure(session: &Session) -> ConnectError {
    match session.wait(SECONDS).unwrap_err() {
        Error::Connect(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn scram_connects_and_authenticates_anew() {
    let (address, server) = broker(1, |peer| {
        let first = connect_data(peer.next());
        let last = scram("pencil", &first, |data| continued(peer, data.as_bytes())).unwrap();
        peer.connack(ReasonCode::Success, Some(last.as_bytes()));
        let Said::Auth { reason: ReasonCode::ReAuthenticate, data } = peer.next() else { panic!("no AUTH") };
        assert_ne!(data, first, "nonces differ");
        let last = scram("pencil", &data, |data| continued(peer, data.as_bytes())).unwrap();
        peer.auth(ReasonCode::Success, last.as_bytes());
        assert_eq!(peer.next(), Said::Disconnect(ReasonCode::Success));
    });
    let manager = Manager::new().unwrap();
    let scram = Arc::new(ScramSha256::new("user", "pencil").unwrap());
    let session = manager.add(builder(&address).authenticator(scram)).unwrap();
    session.wait(SECONDS).unwrap();
    assert_eq!(session.reauthenticate().unwrap().wait(SECONDS).unwrap(), ReasonCode::Success);
    manager.shutdown(SECONDS).unwrap();
    server.join().unwrap();
}

#[test]
fn scram_with_the_wrong_password_is_refused() {
    let (address, server) = broker(1, |peer| {
        let first = connect_data(peer.next());
        assert_eq!(scram("pencil", &first, |data| continued(peer, data.as_bytes())), None);
        peer.connack(ReasonCode::NotAuthorized, None);
    });
    let manager = Manager::new().unwrap();
    let scram = Arc::new(ScramSha256::new("user", "crayon").unwrap());
    let session = manager.add(builder(&address).authenticator(scram)).unwrap();
    let error = failure(&session);
    assert!(matches!(error, ConnectError::Refused { reason: ReasonCode::NotAuthorized, .. }), "{error}");
    assert!(!error.is_temporary());
    server.join().unwrap();
}

#[test]
fn a_server_that_does_not_know_the_password_is_left() {
    for last in [Some(format!("v={}", BASE64.encode([0; 32]))), None] {
        let (address, server) = broker(1, move |peer| {
            let first = connect_data(peer.next());
            scram("pencil", &first, |data| continued(peer, data.as_bytes())).unwrap();
            peer.connack(ReasonCode::Success, last.as_ref().map(String::as_bytes));
            // It may say goodbye first, but nothing else.
            assert!(matches!(peer.next(), Said::Disconnect(_) | Said::Closed));
        });
        let manager = Manager::new().unwrap();
        let scram = Arc::new(ScramSha256::new("user", "pencil").unwrap());
        let session = manager.add(builder(&address).authenticator(scram)).unwrap();
        let error = failure(&session);
        assert!(matches!(error, ConnectError::Auth(_)), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn plain_says_it_all_in_the_connect() {
    let (address, server) = broker(1, |peer| {
        let said = peer.next();
        peer.connack(ReasonCode::Success, None);
        // Until the client leaves.
        peer.next();
        said
    });
    let manager = Manager::new().unwrap();
    let plain = Arc::new(Plain::new("tim", "tanstaaftanstaaf").unwrap());
    let session = manager.add(builder(&address).authenticator(plain)).unwrap();
    session.wait(SECONDS).unwrap();
    manager.shutdown(SECONDS).unwrap();
    let expected = Said::Connect {
        method: Some("PLAIN".into()),
        data: b"\0tim\0tanstaaftanstaaf".to_vec(),
        user: None,
        password: Vec::new(),
    };
    assert_eq!(server.join().unwrap(), [expected]);
}

#[test]
fn tokens_are_fetched_anew_for_each_connection() {
    let (address, server) = broker(2, |peer| {
        let said = peer.next();
        peer.connack(ReasonCode::Success, None);
        said
    });
    let fetched = AtomicU32::new(0);
    let source = move || Ok(Token::new(format!("token {}", fetched.fetch_add(1, Ordering::SeqCst))));
    let bearer = Arc::new(Bearer::new(TokenFn(source)).method_name("OAUTH2"));
    let manager = Manager::new().unwrap();
    let options =
        SessionBuilder::quick("s", &*address).credentials_provider(bearer.clone()).authenticator(bearer);
    let backoff = ringmq_client::Backoff { first_ms: 10, ..ringmq_client::Backoff::default() };
    // The broker's side drops each connection when it is done with it, and then there is another.
    let _session = manager.add(options.backoff(backoff)).unwrap();
    let expected = |number| Said::Connect {
        method: Some("OAUTH2".into()),
        data: format!("token {number}").into_bytes(),
        user: None,
        password: Vec::new(),
    };
    assert_eq!(server.join().unwrap(), [expected(0), expected(1)]);
}

#[test]
fn passwords_from_providers() {
    let file = std::env::temp_dir().join(format!("ringmq-password-{}", std::process::id()));
    std::fs::write(&file, "geheim\n").unwrap();
    let from_file = Arc::new(PasswordFile { user: "u".into(), path: file.clone() });
    let token = Arc::new(TokenPassword::new(Token::new("jwt")).user("t"));
    let (address, server) = broker(2, |peer| {
        let said = peer.next();
        peer.connack(ReasonCode::Success, None);
        // Until the client leaves.
        peer.next();
        said
    });
    let manager = Manager::new().unwrap();
    for provider in [from_file.clone() as Arc<dyn ringmq_client::CredentialsProvider>, token] {
        let session = manager.add(builder(&address).credentials_provider(provider)).unwrap();
        session.wait(SECONDS).unwrap();
        manager.remove("s").unwrap();
    }
    let expected = |user: &str, password: &str| Said::Connect {
        method: None,
        data: Vec::new(),
        user: Some(user.into()),
        password: password.into(),
    };
    assert_eq!(server.join().unwrap(), [expected("u", "geheim"), expected("t", "jwt")]);

    // Without the file there is no connection, and the session says why.
    std::fs::remove_file(&file).unwrap();
    let session = manager.add(builder(&address).credentials_provider(from_file)).unwrap();
    let error = failure(&session).to_string();
    assert!(error.contains("No such file"), "{error}");
}

//! What a session's core calls: where messages go, and what happened. On an I/O thread, so nothing here waits or
//! runs the program's code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::auth::{AuthError, CredentialsSource};
use crate::dispatch::panic_message;
use crate::error::Error;
use crate::events::EventKind;
use crate::link::{Request, Router, SessionId, SessionShared, Target, Watcher};
use crate::routes::{Routes, SessionRouter};
use crate::session::{Session, SessionInner};
use crate::status::{Happening, Retry, Status};

/// One session's.
#[derive(Debug)]
pub(crate) struct Hooks {
    router: SessionRouter,
    session: Weak<SessionInner>,
}

impl std::fmt::Debug for SessionInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.shared, f)
    }
}

impl Hooks {
    pub fn new(id: SessionId, session: Weak<SessionInner>, routes: &Arc<Routes>) -> Self {
        Self { router: SessionRouter { session: id, routes: Arc::clone(routes) }, session }
    }

    fn session(&self) -> Option<Session> {
        self.session.upgrade().map(Session)
    }
}

impl Router for Hooks {
    fn version(&self) -> u64 {
        self.router.version()
    }

    fn targets(&self, topic: &str) -> Vec<Arc<dyn Target>> {
        self.router.targets(topic)
    }
}

impl Watcher for Hooks {
    fn happened(&self, shared: &Arc<SessionShared>, happening: Happening) {
        let Some(session) = self.session() else { return };
        let manager = &session.0.manager;
        let name = session.shared_name();
        let address = |index: usize| shared.options.addresses[index].clone();
        match happening {
            Happening::Connecting { address: index } => {
                manager.set_status(&session, Status::Connecting, None);
                manager.bus.tell(name, EventKind::Connecting { address: address(index) });
            }
            Happening::Connected { address: index, session_present } => {
                manager.set_status(&session, Status::Connected, None);
                manager.bus.tell(name, EventKind::Connected { address: address(index), session_present });
            }
            Happening::Ready => {
                manager.set_status(&session, Status::Ready, None);
                manager.bus.tell(name, EventKind::Ready);
            }
            Happening::Lost { why, retry } => {
                let status = if retry.is_some() { Status::Waiting } else { Status::Failed };
                manager.set_status(&session, status, Some(Error::Connect(why.clone())));
                manager.bus.tell(name, EventKind::Disconnected { why: Some(why) });
                if let Some(Retry { attempt, delay_ms }) = retry {
                    let delay = Duration::from_millis(delay_ms);
                    manager.bus.tell(name, EventKind::Reconnecting { attempt, delay });
                }
            }
            Happening::Disconnected => {
                manager.set_status(&session, Status::Disconnected, None);
                manager.bus.tell(name, EventKind::Disconnected { why: None });
            }
            Happening::Removed => {
                let inner = Arc::clone(manager);
                let gone = session.clone();
                manager.pool.run(move || inner.finish(&gone));
            }
        }
    }

    fn needs_credentials(&self, shared: &Arc<SessionShared>) {
        let Some(session) = self.session() else { return };
        let shared = Arc::clone(shared);
        session.0.manager.pool.run(move || {
            let CredentialsSource::Provider(provider) = &shared.options.credentials else { return };
            let given = catch_unwind(AssertUnwindSafe(|| provider.credentials())).unwrap_or_else(|panic| {
                let said = panic_message(panic.as_ref());
                Err(AuthError(format!("the credentials provider panicked: {said}")))
            });
            shared.mailbox.post(Request::Credentials(shared.id, given));
        });
    }

    fn store_failed(&self, _: &Arc<SessionShared>, why: &str) {
        if let Some(session) = self.session() {
            let why = why.to_owned();
            session.0.manager.bus.tell(session.shared_name(), EventKind::StoreFailed { why });
        }
    }
}

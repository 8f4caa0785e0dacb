//! The brokers' addresses that sessions use, each registered once with the runtime.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ringmq_shards::{ClientTls, Peer};
use ringmq_turn::PeerId;

use crate::address::Address;
use crate::error::Error;
use crate::threads::Driver;
use crate::tls::Tls;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    address: Address,
    tls: Option<Arc<Tls>>,
    sources: Arc<[IpAddr]>,
}

#[derive(Debug)]
struct Registered {
    id: PeerId,
    used: usize,
}

#[derive(Debug)]
struct Loaded {
    client: ClientTls,
    used: usize,
    /// Of the files, when they were last looked at.
    seen: Vec<Option<(SystemTime, u64)>>,
}

#[derive(Debug, Default)]
struct Tables {
    peers: HashMap<Key, Registered>,
    keys: HashMap<PeerId, Key>,
    tls: HashMap<Arc<Tls>, Loaded>,
}

/// All of them, with how many sessions use each.
#[derive(Debug)]
pub(crate) struct FarEnds {
    driver: Arc<dyn Driver>,
    tables: Mutex<Tables>,
}

/// What one session uses, until it is given back.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// In the order of the addresses.
    pub peers: Arc<[PeerId]>,
    pub tls: Option<Arc<Tls>>,
}

fn seen(tls: &Tls) -> Vec<Option<(SystemTime, u64)>> {
    let look = |path| std::fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
    tls.paths().map(look).collect()
}

impl FarEnds {
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        Self { driver, tables: Mutex::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers what a session uses, where no other session has.
    pub fn lease(&self, addresses: &[Address], tls: &Tls, sources: &[IpAddr]) -> Result<Lease, Error> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let mut lease = Lease::default();
        let mut peers = Vec::with_capacity(addresses.len());
        let mut client = None;
        if addresses.iter().any(Address::speaks_tls) {
            let (kept, loaded) = tables.load(tls)?;
            client = Some(loaded);
            lease.tls = Some(kept);
        }
        let sources: Arc<[IpAddr]> = Arc::from(sources);
        for address in addresses {
            let layer = lease.tls.as_ref().filter(|_| address.speaks_tls());
            let key = Key { address: address.clone(), tls: layer.cloned(), sources: Arc::clone(&sources) };
            let id = match tables.peers.entry(key) {
                Entry::Occupied(mut peer) => {
                    peer.get_mut().used += 1;
                    peer.get().id
                }
                Entry::Vacant(vacant) => {
                    let (place, websocket) = address.peer();
                    let tls = client.clone().filter(|_| address.speaks_tls());
                    let peer = Peer { tls, websocket, sources: sources.to_vec(), ..Peer::new(place) };
                    let id = self.driver.add_peer(peer);
                    tables.keys.insert(id, vacant.key().clone());
                    vacant.insert(Registered { id, used: 1 }).id
                }
            };
            peers.push(id);
        }
        lease.peers = Arc::from(peers);
        Ok(lease)
    }

    /// A session is gone.
    pub fn release(&self, lease: &mut Lease) {
        let mut tables = self.tables();
        let tables = &mut *tables;
        for id in &*std::mem::take(&mut lease.peers) {
            let Some(key) = tables.keys.get(id) else { continue };
            let Some(peer) = tables.peers.get_mut(key) else { continue };
            peer.used -= 1;
            if peer.used == 0 {
                tables.peers.remove(key);
                tables.keys.remove(id);
                self.driver.remove_peer(*id);
            }
        }
        if let Some(tls) = lease.tls.take()
            && let Entry::Occupied(mut loaded) = tables.tls.entry(tls)
        {
            loaded.get_mut().used -= 1;
            if loaded.get().used == 0 {
                loaded.remove();
            }
        }
    }

    /// Reads files anew, for connections opened from then on. If anything is wrong with them, all stays as it
    /// was.
    pub fn reload(&self, tls: &Arc<Tls>) -> Result<(), Error> {
        let client = self.tables().tls.get(tls).map(|loaded| loaded.client.clone());
        let Some(client) = client else { return Err(Error::Gone) };
        client.reload().map_err(|error| Error::Tls(error.to_string()))
    }

    /// Those whose files changed since the last look, of those that are to be watched.
    pub fn changed(&self) -> Vec<Arc<Tls>> {
        let mut changed = Vec::new();
        for (tls, loaded) in &mut self.tables().tls {
            if tls.watches() {
                let now = seen(tls);
                if now != loaded.seen {
                    loaded.seen = now;
                    changed.push(Arc::clone(tls));
                }
            }
        }
        changed
    }
}

impl Tables {
    fn load(&mut self, tls: &Tls) -> Result<(Arc<Tls>, ClientTls), Error> {
        if let Some((kept, _)) = self.tls.get_key_value(tls) {
            let kept = Arc::clone(kept);
            let loaded = self.tls.get_mut(tls).expect("it was just found");
            loaded.used += 1;
            return Ok((kept, loaded.client.clone()));
        }
        // Before the files are read: a change while they are is then noticed.
        let seen = seen(tls);
        let client = ClientTls::load(&tls.files()).map_err(|error| Error::Tls(error.to_string()))?;
        let kept = Arc::new(tls.clone());
        self.tls.insert(Arc::clone(&kept), Loaded { client: client.clone(), used: 1, seen });
        Ok((kept, client))
    }
}

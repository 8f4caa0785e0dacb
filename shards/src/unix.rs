//! Unix sockets to listen on, and their files.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::UnixListener;
use crate::listen::until_free;

/// The file of a Unix socket that is listened on. Removed with this, unless another took its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity);
        if same && let Err(cause) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %cause, "cannot remove a socket file; the next start replaces it");
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// What is in the way of a bind.
#[derive(Debug, thiserror::Error)]
enum InTheWay {
    #[error("a process listens there already")]
    Process,
    #[error("there is a file that is not a socket")]
    File,
}

/// A listening socket and its file.
pub(crate) fn listen(wanted: &UnixListener, backlog: i32) -> io::Result<(Socket, SocketFile)> {
    let address = SockAddr::unix(&wanted.path)?;
    until_free(&wanted.path.display(), || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                make_way(wanted, &address)?;
                socket.bind(&address)?;
            }
            bound => bound?,
        }
        let file = SocketFile {
            path: wanted.path.clone(),
            identity: identity(&fs::symlink_metadata(&wanted.path)?),
        };
        if let Some(mode) = wanted.mode {
            // Before anybody can connect.
            fs::set_permissions(&wanted.path, Permissions::from_mode(mode))?;
        }
        socket.listen(backlog)?;
        Ok((socket, file))
    })
}

/// Removes a socket file that nobody listens on.
fn make_way(wanted: &UnixListener, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(&wanted.path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, InTheWay::File));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose queue is full listens too.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(&wanted.path),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, InTheWay::Process)),
    }
}

/// What to do about an error of [`listen`].
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "`ss -lxp` shows which process holds it: stop that, or choose another path"
        }
        io::ErrorKind::AlreadyExists => "move it away if it is not needed, or choose another path",
        io::ErrorKind::NotFound => "make the folder that it is to be in",
        io::ErrorKind::PermissionDenied => "this user must be allowed to write to the folder",
        io::ErrorKind::InvalidInput => "the path of a socket has 107 bytes at most, and no zero byte",
        _ => "check the path",
    }
}

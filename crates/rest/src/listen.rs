//! The unix socket: connections of the node, which forwards them from the control port.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

/// How often the socket's file is looked for: somebody may remove it while the node lives.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause after `accept` failed (no descriptor left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Listener {
    path: PathBuf,
    socket: UnixListener,
    inode: u64,
}

impl Listener {
    pub(crate) fn bind(path: PathBuf) -> io::Result<Self> {
        let (socket, inode) = bind(&path)?;
        Ok(Self {
            path,
            socket,
            inode,
        })
    }

    /// Makes the socket again if it was removed.
    fn look(&mut self) {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.ino() == self.inode => return,
            Ok(_) | Err(_) => {}
        }
        // The directory may not be there either; the node makes that again.
        if let Ok((socket, inode)) = bind(&self.path) {
            tracing::warn!(path = %self.path.display(), "the socket was removed and is made again");
            (self.socket, self.inode) = (socket, inode);
        }
    }
}

fn bind(path: &Path) -> io::Result<(UnixListener, u64)> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok((socket, fs::symlink_metadata(path)?.ino()))
}

impl axum::serve::Listener for Listener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        let own_uid = rustix::process::geteuid().as_raw();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    self.look();
                    continue;
                }
            };
            match accepted {
                // The run directory keeps others out already; this holds even if somebody opens it up.
                Ok((stream, address)) => match eagleray_wire::peer_uid(&stream) {
                    Ok(uid) if uid == own_uid || uid == 0 => return (stream, address),
                    _ => tracing::warn!("a connection of another user is refused"),
                },
                Err(error) => {
                    tracing::warn!(%error, "connections to rest.sock cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

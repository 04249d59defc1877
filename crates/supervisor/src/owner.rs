//! Watching the script that owns a node, by pidfd and by a pipe that it holds.
//!
//! Both, because either can fail alone: a child that the script forked keeps the pipe open, and a number says
//! nothing of a script that ended before the node looked.

use std::{os::fd::OwnedFd, time::Duration};

use tokio::{io::AsyncReadExt, net::unix::pipe, time};

use crate::pidfd::Pidfd;

/// The kernel closes the files of a process that dies before it tells of the death; this is between the two.
const BETWEEN_CLOSE_AND_DEATH: Duration = Duration::from_millis(100);

/// The script that owned a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It let go of its node and lives: it waits for the end.
    LetGo,
    /// It is dead.
    Dead,
}

/// Returns when the owner is gone or has let go; never when there is none.
pub(crate) async fn gone(pid: Option<u32>, pipe: Option<OwnedFd>) -> Gone {
    let pidfd = pid.map(Pidfd::open);
    let dead = async {
        match &pidfd {
            None => std::future::pending().await,
            Some(Ok(pidfd)) => pidfd.ended().await,
            // Not there to be opened: it has ended already.
            Some(Err(_)) => {}
        }
    };
    tokio::pin!(dead);
    tokio::select! {
        () = &mut dead => return Gone::Dead,
        () = closed(pipe) => {}
    }
    match time::timeout(BETWEEN_CLOSE_AND_DEATH, dead).await {
        Ok(()) => Gone::Dead,
        Err(_) => Gone::LetGo,
    }
}

async fn closed(pipe: Option<OwnedFd>) {
    let Some(pipe) = pipe else {
        return std::future::pending().await;
    };
    let Ok(mut pipe) = pipe::Receiver::from_owned_fd(pipe) else {
        tracing::error!(
            "the descriptor of the owner is no pipe; the owner is watched by its number only"
        );
        return std::future::pending().await;
    };
    let mut bytes = [0; 64];
    while let Ok(1..) = pipe.read(&mut bytes).await {}
}

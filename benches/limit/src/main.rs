//! `eagleray-bench-limit`: what the data path would cost if there were nothing in it.
//!
//! hyper in front, one thread; every request becomes a REQUEST frame with its whole head, goes over one unix socket
//! to one Python process on asyncio (`limit_replica.py`), and comes back as a RESPONSE frame. No routing, no
//! admission, no claim, no framework, no log. `make bench` compares the CPU time of a request with this.

mod front;
mod link;

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    rc::Rc,
};

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "hyper, Eagleray's codec and a Python loop that answers; nothing else")]
struct Options {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Path of `limit_replica.py`.
    #[arg(long)]
    replica: PathBuf,
}

async fn serve(options: Options) -> io::Result<()> {
    let (here, there) = UnixStream::pair()?;
    // The replica's end is its standard input, so it ends with this process.
    let _replica = Command::new(&options.python)
        .arg(&options.replica)
        .stdin(Stdio::from(OwnedFd::from(there)))
        .spawn()?;
    here.set_nonblocking(true)?;
    let link = link::Link::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = tokio::net::TcpListener::bind(address).await?;
    let running = tokio::task::spawn_local(link::run(
        Rc::clone(&link),
        tokio::net::UnixStream::from_std(here)?,
    ));
    tokio::select! {
        result = front::accept(listener, link) => result,
        ended = running => ended.map_err(io::Error::other)?,
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result =
        runtime.and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, serve(options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is closed.
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

//! Which node is meant, where its control port is, and the token that it wants.
//!
//! A node of this machine is found by its run directory, which holds both. Another is named by its address, in an option or
//! in the environment, and its token comes from the environment or a file: never from the command line, which everybody on a
//! machine can read.

use std::{fs, path::PathBuf};

use clap::Args;
use eagleray_supervisor::{
    environment::set,
    run_directory::{self, NodeRecord},
};

use crate::{
    exit::Exit,
    output, socket,
    trouble::{Outcome, Trouble},
};

const ADDRESS: &str = "EAGLERAY_ADDRESS";
/// Named by Ray.
const DASHBOARD_ADDRESS: &str = "RAY_DASHBOARD_ADDRESS";
const TOKENS: [&str; 2] = ["EAGLERAY_TOKEN", "RAY_AUTH_TOKEN"];
const TOKEN_FILES: [&str; 2] = ["EAGLERAY_TOKEN_FILE", "RAY_AUTH_TOKEN_PATH"];

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// Control address of the node, such as `http://127.0.0.1:8265` [default: `EAGLERAY_ADDRESS` or
    /// `RAY_DASHBOARD_ADDRESS`, else that of the node on this machine].
    #[arg(short, long, value_name = "URL")]
    pub(crate) address: Option<String>,
    /// Name of the node on this machine [default: `default` or `EAGLERAY_NODE_NAME`, else the only one that runs].
    #[arg(long, value_name = "NAME", conflicts_with = "address")]
    pub(crate) node: Option<String>,
}

/// Where to ask.
#[derive(Clone, PartialEq)]
pub(crate) struct Found {
    /// Without a `/` at its end.
    pub(crate) address: String,
    pub(crate) token: Option<String>,
    /// Where the token is from, or why there is none.
    pub(crate) token_from: String,
    /// It is on this machine, and so has this machine's files.
    pub(crate) local: bool,
}

impl Where {
    /// It is named by its address.
    pub(crate) fn is_remote(&self) -> bool {
        self.address.is_some()
    }

    pub(crate) fn find(&self) -> Outcome<Found> {
        if let Some(node) = &self.node {
            output::meant(format!(" --node {node}"));
        } else if let Some(address) = &self.address {
            output::meant(format!(" --address {address}"));
        }
        let given = self.address.clone().or_else(|| {
            let from_environment = || set(ADDRESS).or_else(|| set(DASHBOARD_ADDRESS));
            self.node.is_none().then(from_environment).flatten()
        });
        match given {
            Some(address) => remote(&address),
            None => local(&socket::find(self.node.as_deref())?),
        }
    }
}

fn local(node: &NodeRecord) -> Outcome<Found> {
    if node.control_address.is_empty() {
        let message = format!(
            "node {} (process {}) has no control port",
            node.name, node.pid
        );
        return Err(Trouble::new(Exit::Unknown, "no_control_port", message).help(
            "it is of an earlier release: end it with `eagleray stop`, and start it with `eagleray start`",
        ));
    }
    let file = token_file(node);
    let token = read(&file)?;
    Ok(Found {
        address: node.control_address.clone(),
        token: Some(token),
        token_from: file.display().to_string(),
        local: true,
    })
}

fn remote(address: &str) -> Outcome<Found> {
    let address = address.trim_end_matches('/');
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme));
    if host.is_none_or(str::is_empty) {
        let message = format!("{address:?} is no address: it begins with http:// or https://");
        return Err(Trouble::new(Exit::Usage, "address", message)
            .help("the address of a node on this machine is http://127.0.0.1:8265"));
    }
    let mut found = Found {
        address: address.to_owned(),
        token: None,
        token_from: format!("there is none: set {} or {}", TOKENS[0], TOKEN_FILES[0]),
        local: false,
    };
    // A node of this machine may be named by its address as well, and is on this machine nevertheless.
    let here = run_directory::records(&run_directory::root())
        .into_iter()
        .find(|node| is_same(&node.control_address, address));
    found.local = here.is_some();
    if let Some((variable, token)) = first(TOKENS) {
        (found.token, found.token_from) = (Some(token), variable.to_owned());
    } else if let Some((variable, file)) = first(TOKEN_FILES) {
        found.token = Some(read(&PathBuf::from(&file))?);
        found.token_from = format!("{variable}={file}");
    } else if let Some(node) = here {
        let file = token_file(&node);
        found.token = Some(read(&file)?);
        found.token_from = file.display().to_string();
    }
    Ok(found)
}

fn is_same(one: &str, other: &str) -> bool {
    let named = |address: &str| address.replace("//localhost:", "//127.0.0.1:");
    !one.is_empty() && named(one) == named(other)
}

fn first(variables: [&'static str; 2]) -> Option<(&'static str, String)> {
    variables
        .into_iter()
        .find_map(|variable| Some((variable, set(variable)?.trim().to_owned())))
}

fn token_file(node: &NodeRecord) -> PathBuf {
    run_directory::root().join(&node.name).join("token")
}

fn read(file: &PathBuf) -> Outcome<String> {
    let token = fs::read_to_string(file).map_err(|error| {
        let message = format!("the token cannot be read: {}: {error}", file.display());
        Trouble::new(Exit::Unknown, "token", message)
            .help("only the user who started the node can read its token")
    })?;
    Ok(token.trim().to_owned())
}

/// Never shown with its token.
impl std::fmt::Debug for Found {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Found");
        shown
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for wrong in ["127.0.0.1:8265", "ftp://x", "http://", ""] {
            let trouble = remote(wrong).expect_err(wrong);
            assert_eq!(trouble.exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn names_of_this_machine_are_one() {
        assert!(is_same("http://127.0.0.1:8265", "http://localhost:8265"));
        assert!(!is_same("http://127.0.0.1:8265", "http://127.0.0.1:8266"));
        assert!(!is_same("", ""));
    }
}

//! Names of deployments, replicas and nodes.

use std::fmt;

/// A deployment of an application. Prints as `application/deployment`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Message)]
pub struct DeploymentKey {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(string, tag = "2")]
    pub deployment: String,
}

impl DeploymentKey {
    pub fn new(application: impl Into<String>, deployment: impl Into<String>) -> Self {
        Self {
            application: application.into(),
            deployment: deployment.into(),
        }
    }
}

impl fmt::Display for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.deployment)
    }
}

/// The unique name of one replica process: eight characters of `[a-z0-9]`, never used twice by one controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(String);

impl ReplicaId {
    /// Takes an id as it came over the wire; `None` unless it is 1 to 64 characters of `[A-Za-z0-9_-]`, since
    /// it becomes part of a file name.
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one life of a node. What is said between a controller and a node carries it, so that the word of another
/// node, or of one that had its place before, is not taken for its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(String);

impl NodeId {
    /// Takes an id as it came over the wire or in the environment; `None` unless it is 1 to 64 characters of
    /// `[A-Za-z0-9_-]`.
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a message is from or for this node, that `names` a node. One of a release that knew only one names none,
    /// and means whoever is at the end of its connection.
    pub fn is_meant_by(&self, names: &str) -> bool {
        names.is_empty() || names == self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The file in `logs/` that takes what a replica prints: named in messages by the controller, written by the node.
pub fn replica_log_name(deployment: &DeploymentKey, replica_id: &str) -> String {
    format!(
        "replica_{}_{}_{replica_id}.log",
        clean(&deployment.application),
        clean(&deployment.deployment)
    )
}

/// The file with what a build of an application prints.
pub fn build_log_name(application: &str, process_id: &str) -> String {
    format!("build_{}_{process_id}.log", clean(application))
}

/// As part of a file name.
fn clean(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    text.chars()
        .take(60)
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_names_no_node_means_the_one_at_the_end_of_its_connection() {
        let node = NodeId::parse("n1").unwrap();
        assert!(node.is_meant_by("n1") && node.is_meant_by(""));
        assert!(!node.is_meant_by("n2"));
        assert_eq!(NodeId::parse(""), None);
        assert_eq!(NodeId::parse("a/b"), None);
    }

    #[test]
    fn the_name_of_a_log_cannot_leave_its_directory() {
        let key = DeploymentKey::new("my app/..", "x".repeat(200));
        let name = replica_log_name(&key, "a1");
        assert!(name.starts_with("replica_my_app_.._x") && name.ends_with("_a1.log"));
        assert!(!name.contains('/') && name.len() < 150, "{name}");
    }

    #[test]
    fn a_replica_id_cannot_leave_its_directory() {
        assert!(ReplicaId::parse("a1b2c3d4").is_some());
        for hostile in ["", ".", "../x", "a/b", "a\0b", "ä"] {
            assert_eq!(ReplicaId::parse(hostile), None, "{hostile:?}");
        }
        assert_eq!(ReplicaId::parse(&"a".repeat(65)), None);
    }
}

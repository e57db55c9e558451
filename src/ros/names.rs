//! Names of nodes, topics and services, resolved as ROS 2 does: `/absolute`, `relative` to the namespace, `~/private` to the node.

use std::fmt;

/// A node in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// Starts with a slash; the root is `/`.
    namespace: String,
    base: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is no name of a ROS {what}: parts of letters, digits and underscores, none starting with a digit, with single slashes between"
)]
pub struct NameError {
    name: String,
    what: &'static str,
}

impl NodeName {
    /// `namespace`: with or without a slash in front; empty is the root.
    ///
    /// # Errors
    /// Names that ROS does not allow.
    pub fn new(namespace: &str, base: &str) -> Result<Self, NameError> {
        if !is_token(base) {
            return Err(NameError { name: base.to_owned(), what: "node" });
        }
        let inner = namespace.trim_matches('/');
        if !inner.is_empty() && !inner.split('/').all(is_token) {
            return Err(NameError { name: namespace.to_owned(), what: "namespace" });
        }
        Ok(Self { namespace: format!("/{inner}"), base: base.to_owned() })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// The absolute name of a topic or service that this node speaks of.
    ///
    /// # Errors
    /// A name that ROS does not allow.
    pub fn resolve(&self, name: &str) -> Result<String, NameError> {
        let relative = |to: &str, name: &str| if to == "/" { format!("/{name}") } else { format!("{to}/{name}") };
        let resolved = match name.strip_prefix('~') {
            Some(private) if private.is_empty() || private.starts_with('/') => format!("{self}{private}"),
            Some(_) => return Err(NameError { name: name.to_owned(), what: "topic or service" }),
            None if name.starts_with('/') => name.to_owned(),
            None => relative(&self.namespace, name),
        };
        if resolved[1..].split('/').all(is_token) {
            Ok(resolved)
        } else {
            Err(NameError { name: name.to_owned(), what: "topic or service" })
        }
    }

    /// As [`NodeName::resolve`], with the first of the rules that fits (`from`, `to`).
    ///
    /// # Errors
    /// A name, also in a rule, that ROS does not allow.
    pub fn resolve_remapped(&self, name: &str, remaps: &[(String, String)]) -> Result<String, NameError> {
        let resolved = self.resolve(name)?;
        for (from, to) in remaps {
            if self.resolve(from)? == resolved {
                return self.resolve(to);
            }
        }
        Ok(resolved)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.namespace == "/" { "" } else { "/" };
        write!(f, "{}{separator}{}", self.namespace, self.base)
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_as_in_the_design_page() {
        // The table of examples on https://design.ros2.org/articles/topic_and_service_names.html
        let node = NodeName::new("/", "node").unwrap();
        for (name, expected) in [("ping", "/ping"), ("/ping", "/ping"), ("~/ping", "/node/ping"), ("~", "/node")] {
            assert_eq!(node.resolve(name).as_deref(), Ok(expected));
        }
        let node = NodeName::new("/my_ns", "my_node").unwrap();
        for (name, expected) in [("foo/bar", "/my_ns/foo/bar"), ("/ping", "/ping"), ("~/ping", "/my_ns/my_node/ping")] {
            assert_eq!(node.resolve(name).as_deref(), Ok(expected));
        }
        assert_eq!((node.to_string().as_str(), NodeName::new("a/b", "c").unwrap().to_string().as_str()), ("/my_ns/my_node", "/a/b/c"));
    }

    #[test]
    fn what_ros_refuses_is_refused() {
        let node = NodeName::new("", "node").unwrap();
        for name in ["", "/", "a//b", "a/", "1a", "a b", "~a", "a-b", "/ä"] {
            assert!(node.resolve(name).is_err(), "{name}");
        }
        assert!(NodeName::new("", "a/b").is_err() && NodeName::new("/1", "a").is_err());
    }

    #[test]
    fn remapping_compares_resolved_names() {
        let node = NodeName::new("/front", "detect").unwrap();
        let rule = |from: &str, to: &str| vec![(from.to_owned(), to.to_owned())];
        let remapped = |rules: &[(String, String)]| node.resolve_remapped("~/input/pointcloud", rules).unwrap();
        assert_eq!(remapped(&rule("~/input/pointcloud", "points")), "/front/points");
        assert_eq!(remapped(&rule("/front/detect/input/pointcloud", "/points")), "/points");
        assert_eq!(remapped(&rule("input/pointcloud", "/points")), "/front/detect/input/pointcloud");
    }
}

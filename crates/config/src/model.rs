//! A config that is right: applications, what they say about their deployments, and what concerns the node.

use std::{collections::BTreeMap, path::Path as FilePath};

use serde_json::{Map, Value as Json};

use crate::{
    check::Check,
    format::Format,
    json,
    node::{Node, Place, Value},
    problem::{Path, Problem, Problems, Stage},
    read, table, yaml,
};

/// A whole config. What it does not state is not in it: [`table`] has the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub applications: Vec<Application>,
    /// What is stated beside the applications: `http_options` and so on. [`crate::shape::Object::with_defaults`] of
    /// [`table::CONFIG`] completes it.
    pub node: Map<String, Json>,
    /// What is right, and yet to be said: old names, and keys that nothing obeys yet.
    pub warnings: Problems,
    /// Where each value of `node` is written, by its path.
    places: BTreeMap<String, Place>,
}

/// One application of a config.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    pub name: String,
    /// None: no proxy shows it.
    pub route_prefix: Option<String>,
    /// `module:attribute`.
    pub import_path: String,
    /// For the function that builds it.
    pub args: Map<String, Json>,
    /// What goes over the options in the code, in the order of the text.
    pub deployments: Vec<Deployment>,
    /// All that the config states of it.
    pub stated: Map<String, Json>,
    /// Where it is written.
    pub place: Option<Place>,
    /// How messages call it: `applications[0]`.
    pub path: String,
}

/// What a config says of one deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub name: String,
    /// Without the name.
    pub options: Map<String, Json>,
    pub place: Option<Place>,
    /// Where each option is written.
    pub places: BTreeMap<String, Place>,
    /// How messages call it: `applications[0].deployments[1]`.
    pub path: String,
}

impl Config {
    /// The config that a text is.
    ///
    /// # Errors
    /// All that is wrong, of the first stage that finds anything: the syntax, then the schema together with what is valid
    /// and not available in this release.
    pub fn parse(text: &str, format: Format) -> Result<Self, Problems> {
        if text.len() > read::MOST_BYTES {
            return Err(read::too_long(text.len() as u64));
        }
        let node = match format {
            Format::Yaml => yaml::parse(text),
            Format::Json => json::parse(text),
        }?;
        Self::of_node(&node)
    }

    /// The config that the file at `path` is: [`crate::read`], then [`Config::parse`].
    ///
    /// # Errors
    /// As both.
    pub fn read(path: &FilePath) -> Result<Self, Problems> {
        let (text, format) = read::read(path)?;
        Self::parse(&text, format)
    }

    /// # Errors
    /// As [`Config::parse`]; problems have no places.
    pub fn of_json(json: &Json) -> Result<Self, Problems> {
        Self::of_node(&Node::of_json(json))
    }

    fn of_node(node: &Node) -> Result<Self, Problems> {
        if node.value == Value::Null {
            return Err(Problems::one(Problem {
                stage: Stage::Schema,
                path: String::new(),
                place: node.place,
                message: "empty: \"applications\" is missing".to_owned(),
                help: "a config of none is `applications: []`".to_owned(),
            }));
        }
        let mut check = Check::default();
        let map = check.object(&table::CONFIG, node, &Path::Root);
        let Some(mut map) = map else {
            check.problems.sort();
            return Err(check.problems);
        };
        check.warnings.sort();
        let stated = list(map.remove("applications"));
        let applications = stated
            .into_iter()
            .zip(items(node.get("applications")))
            .enumerate()
            .map(|(index, (stated, node))| {
                Application::new(stated, node, format!("applications[{index}]"))
            })
            .collect();
        Ok(Self {
            applications,
            node: map,
            warnings: check.warnings,
            places: places(node),
        })
    }

    /// Where a value beside the applications is written, for whoever finds more wrong with it than can be known here.
    ///
    /// # Arguments
    /// `path`: as in problems, such as `http_options.limits.header_count` or `http_options.trusted_proxies[0]`.
    pub fn place(&self, path: &str) -> Option<Place> {
        self.places.get(path).copied()
    }

    /// All that is stated, as JSON of which equal configs have the same: keys sorted, no blanks, numbers in one way of
    /// writing. For hashes, and to compare.
    pub fn canonical(&self) -> String {
        let mut map = self.node.clone();
        let applications = self
            .applications
            .iter()
            .map(|one| Json::from(one.stated.clone()));
        map.insert("applications".to_owned(), applications.collect());
        Json::from(map).to_string()
    }
}

impl Application {
    fn new(stated: Map<String, Json>, node: &Node, path: String) -> Self {
        let text = |key: &str, default: &str| match stated.get(key) {
            Some(Json::String(text)) => text.clone(),
            _ => default.to_owned(),
        };
        let route_prefix = match stated.get("route_prefix") {
            Some(Json::Null) => None,
            _ => Some(text("route_prefix", "/")),
        };
        let deployments = list(stated.get("deployments").cloned())
            .into_iter()
            .zip(items(node.get("deployments")))
            .enumerate()
            .map(|(index, (options, node))| {
                Deployment::new(options, node, format!("{path}.deployments[{index}]"))
            })
            .collect();
        Self {
            name: text("name", "default"),
            route_prefix,
            import_path: text("import_path", ""),
            args: map(stated.get("args")),
            deployments,
            stated,
            place: node.place,
            path,
        }
    }

    /// As [`Config::canonical`], of this application alone.
    pub fn canonical(&self) -> String {
        Json::from(self.stated.clone()).to_string()
    }
}

impl Deployment {
    fn new(mut options: Map<String, Json>, node: &Node, path: String) -> Self {
        let name = match options.remove("name") {
            Some(Json::String(name)) => name,
            _ => String::new(),
        };
        let places = match &node.value {
            Value::Map(entries) => entries
                .iter()
                .filter_map(|entry| Some((entry.key.clone(), entry.value.place?)))
                .collect(),
            _ => BTreeMap::new(),
        };
        Self {
            name,
            options,
            place: node.place,
            places,
            path,
        }
    }
}

/// The places of all values but those of the applications.
fn places(root: &Node) -> BTreeMap<String, Place> {
    let mut found = BTreeMap::new();
    if let Value::Map(entries) = &root.value {
        for entry in entries.iter().filter(|entry| entry.key != "applications") {
            walk(&entry.value, &Path::Root.key(&entry.key), &mut found);
        }
    }
    found
}

fn walk(node: &Node, path: &Path<'_>, found: &mut BTreeMap<String, Place>) {
    found.extend(node.place.map(|place| (path.to_string(), place)));
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &path.index(index), found);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                walk(&entry.value, &path.key(&entry.key), found);
            }
        }
        _ => {}
    }
}

fn map(json: Option<&Json>) -> Map<String, Json> {
    json.and_then(Json::as_object).cloned().unwrap_or_default()
}

fn list(json: Option<Json>) -> Vec<Map<String, Json>> {
    let Some(Json::Array(list)) = json else {
        return Vec::new();
    };
    list.into_iter()
        .map(|item| match item {
            Json::Object(map) => map,
            _ => Map::new(),
        })
        .collect()
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

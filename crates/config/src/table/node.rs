//! The keys of a whole config, of an application, and of what concerns the node.

use super::{
    EMPTY_LIST, EMPTY_MAP, NULL,
    deployment::{DEPLOYMENT, LOGGING, POLICY, RUNTIME_ENV},
    kept, key, later,
};
use crate::{
    rules,
    shape::{
        Default::{Is, Required},
        Object, Rule,
        Takes::{self, Flag, JsonObject, List, Named, OrNull, Positive, Text, Whole, Within, Word},
    },
};

const PORT: Takes = Whole(0, 65_535);
const FINITE: Takes = Within(f64::MIN, f64::MAX);

/// A whole config.
pub static CONFIG: Object = Object {
    name: "the config",
    help: "Applications, and the node that runs them.",
    keys: &[
        key(
            "proxy_location",
            Word {
                words: &["EveryNode", "HeadOnly", "Disabled"],
                any_case: false,
            },
            Is("\"EveryNode\""),
            "On which machines a proxy runs.",
        ),
        key(
            "http_options",
            Takes::Object(&HTTP_OPTIONS),
            EMPTY_MAP,
            "Where HTTP is listened for, and its limits.",
        ),
        key(
            "grpc_options",
            Takes::Object(&GRPC_OPTIONS),
            EMPTY_MAP,
            "The gRPC ingress.",
        ),
        kept(
            key(
                "controller_options",
                OrNull(&Takes::Object(&CONTROLLER_OPTIONS)),
                NULL,
                "Options of the controller.",
            ),
            "the controller is native and has no use for environment variables",
        ),
        kept(
            key(
                "logging_config",
                OrNull(&Takes::Object(&LOGGING)),
                NULL,
                "How the node itself logs.",
            ),
            "an application's logging_config says how its deployments log",
        ),
        key(
            "tracing_config",
            OrNull(&Takes::Object(&TRACING)),
            NULL,
            "Whether and where traces go.",
        ),
        key(
            "applications",
            List(&Takes::Object(&APPLICATION)),
            Required,
            "The applications to run; may be empty.",
        ),
        key(
            "target_capacity",
            OrNull(&Within(0.0, 100.0)),
            NULL,
            "Percentage of all replicas that shall run; null: all of them.",
        ),
    ],
    renamed: &[],
    instead: &[
        (
            "import_path",
            "it is a key of an application: write applications: [{import_path: ...}]",
        ),
        (
            "deployments",
            "it is a key of an application: write applications: [{deployments: ...}]",
        ),
        (
            "runtime_env",
            "it is a key of an application: write applications: [{runtime_env: ...}]",
        ),
        ("host", "write http_options: {host: ...}"),
        (
            "apiVersion",
            "a manifest of Kubernetes; the config is the text of spec.serveConfigV2",
        ),
        ("port", "write http_options: {port: ...}"),
    ],
    own_keys: true,
    together: rules::config,
};

/// One application.
pub static APPLICATION: Object = Object {
    name: "an application",
    help: "An application: where its code is, and what goes over it.",
    keys: &[
        key(
            "name",
            Text(Rule::Name),
            Is("\"default\""),
            "Its name, unlike that of any other.",
        ),
        key(
            "route_prefix",
            OrNull(&Text(Rule::RoutePrefix)),
            Is("\"/\""),
            "The path that it is reached by; null: no proxy shows it.",
        ),
        key(
            "import_path",
            Text(Rule::ImportPath),
            Required,
            "`module:attribute` of the application, or of a function that builds it.",
        ),
        key(
            "runtime_env",
            OrNull(&Takes::Object(&RUNTIME_ENV)),
            EMPTY_MAP,
            "What its replicas run in.",
        ),
        key(
            "args",
            JsonObject,
            EMPTY_MAP,
            "Arguments of the function that builds it.",
        ),
        key(
            "deployments",
            List(&Takes::Object(&DEPLOYMENT)),
            EMPTY_LIST,
            "What goes over options in the code.",
        ),
        key(
            "autoscaling_policy",
            OrNull(&Takes::Object(&POLICY)),
            NULL,
            "Says for all its deployments that scale how many replicas they need.",
        ),
        key(
            "logging_config",
            OrNull(&Takes::Object(&LOGGING)),
            NULL,
            "For deployments that have none.",
        ),
        key(
            "external_scaler_enabled",
            Flag,
            Is("false"),
            "Whether replicas are scaled by who asks for it over REST.",
        ),
    ],
    renamed: &[],
    instead: &[
        ("host", "write it at the top: http_options: {host: ...}"),
        ("env_vars", "it goes into runtime_env"),
        ("port", "write it at the top: http_options: {port: ...}"),
        (
            "num_replicas",
            "it is a key of a deployment: write deployments: [{name: ..., num_replicas: ...}]",
        ),
        (
            "user_config",
            "it is a key of a deployment: write deployments: [{name: ..., user_config: ...}]",
        ),
    ],
    own_keys: false,
    together: rules::application,
};

/// What `http_options` takes. The host differs from that of a script, which listens on loopback: a config is for a server.
pub static HTTP_OPTIONS: Object = Object {
    name: "http_options",
    help: "Where the HTTP proxy listens, and what it bounds. Host, port and whether there is TLS are as the node was started.",
    keys: &[
        key(
            "host",
            OrNull(&Text(Rule::NotEmpty)),
            Is("\"0.0.0.0\""),
            "The address; null: no HTTP.",
        ),
        key("port", PORT, Is("8000"), "The port; 0: any free one."),
        key(
            "root_path",
            Text(Rule::RootPath),
            Is("\"\""),
            "What a proxy in front strips from paths.",
        ),
        key(
            "request_timeout_s",
            OrNull(&FINITE),
            NULL,
            "Seconds of a request, up to the last byte of its answer; null or negative: no limit.",
        ),
        key(
            "keep_alive_timeout_s",
            Positive,
            Is("90.0"),
            "Seconds that an idle connection is kept.",
        ),
        key(
            "ssl_keyfile",
            OrNull(&Text(Rule::NotEmpty)),
            NULL,
            "PEM file of the key, for TLS.",
        ),
        key(
            "ssl_certfile",
            OrNull(&Text(Rule::NotEmpty)),
            NULL,
            "PEM file of the certificate, for TLS.",
        ),
        later(
            key(
                "ssl_keyfile_password",
                OrNull(&Text(Rule::Any)),
                NULL,
                "Password of the key.",
            ),
            "encrypted keys are not taken: name a decrypted copy, that only its owner can read, in ssl_keyfile",
        ),
        key(
            "ssl_ca_certs",
            OrNull(&Text(Rule::NotEmpty)),
            NULL,
            "PEM file: every client must show a certificate.",
        ),
        key(
            "limits",
            Named(Rule::NotEmpty, &Within(0.0, f64::MAX)),
            EMPTY_MAP,
            "Limits of the proxy, by name.",
        ),
        key(
            "trusted_proxies",
            List(&Text(Rule::NotEmpty)),
            EMPTY_LIST,
            "Networks of proxies whose `Forwarded` headers are believed.",
        ),
        key(
            "allowed_hosts",
            List(&Text(Rule::NotEmpty)),
            EMPTY_LIST,
            "Hosts that requests may name; none: any.",
        ),
    ],
    renamed: &[],
    instead: &[
        ("location", "write proxy_location, beside http_options"),
        (
            "middlewares",
            "add them to the application behind the ingress",
        ),
        ("num_cpus", "the proxy reserves none, so leave it out"),
        ("root_url", "leave it out"),
        ("http_host", "write host"),
        ("http_port", "write port"),
        (
            "fixed_number_replicas",
            "each machine has one set of proxy threads, so leave it out",
        ),
        (
            "fixed_number_selection_seed",
            "each machine has one set of proxy threads, so leave it out",
        ),
    ],
    own_keys: false,
    together: rules::http,
};

/// What `grpc_options` takes.
pub static GRPC_OPTIONS: Object = Object {
    name: "grpc_options",
    help: "The gRPC ingress; without servicer functions there is none.",
    keys: &[
        key("port", PORT, Is("9000"), "The port."),
        later(
            key(
                "grpc_servicer_functions",
                List(&Text(Rule::ImportPath)),
                EMPTY_LIST,
                "Import paths of servicers.",
            ),
            "there is no gRPC ingress yet; leave it out",
        ),
        key(
            "request_timeout_s",
            OrNull(&FINITE),
            NULL,
            "Seconds of a request; null: no limit.",
        ),
        key(
            "enable_reflection",
            Flag,
            Is("true"),
            "Whether services can be listed.",
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

static CONTROLLER_OPTIONS: Object = Object {
    name: "controller_options",
    help: "Options of the controller.",
    keys: &[key(
        "runtime_env",
        Takes::Object(&CONTROLLER_ENV),
        EMPTY_MAP,
        "What it runs in.",
    )],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

static CONTROLLER_ENV: Object = Object {
    name: "runtime_env of the controller",
    help: "What the controller runs in.",
    keys: &[key(
        "env_vars",
        Named(Rule::EnvironmentVariable, &Text(Rule::Any)),
        EMPTY_MAP,
        "Environment variables.",
    )],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

static TRACING: Object = Object {
    name: "tracing_config",
    help: "Whether and where traces go.",
    keys: &[
        kept(
            key("enabled", Flag, Is("false"), "Whether there are traces."),
            "there are no traces yet",
        ),
        key(
            "exporter_import_path",
            Text(Rule::Any),
            Is("\"\""),
            "Import path of what exports them.",
        ),
        key(
            "sampling_ratio",
            Within(0.0, 1.0),
            Is("0.01"),
            "The share of requests that are traced.",
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

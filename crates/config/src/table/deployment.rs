//! The keys of a deployment, and of the objects among them.

use super::{EMPTY_LIST, EMPTY_MAP, NULL, kept, key, later, later_unless, option, option_as};
use crate::{
    rules,
    shape::{
        Default::{Is, Required},
        Key, Object, Rule,
        Takes::{
            self, Choice, Flag, Json, JsonObject, Level, List, Named, OptionOrAuto, OrNull,
            Positive, Text, Whole, Within, Word,
        },
    },
};

const ANY_AMOUNT: Takes = Within(0.0, f64::INFINITY);
/// Up to here numbers of JSON are exact.
const MAX_COUNT: i64 = 1 << 53;
/// As of `num_replicas`.
const MAX_REPLICAS: i64 = 10_000;

/// One deployment of an application: what it states goes over what the code says.
pub static DEPLOYMENT: Object = Object {
    name: "a deployment",
    help: "Options of one deployment, over those of the code.",
    keys: &[
        key(
            "name",
            Text(Rule::Name),
            Required,
            "The name of the deployment in the code.",
        ),
        option_as("num_replicas", OrNull(&OptionOrAuto)),
        option_as(
            "max_ongoing_requests",
            Takes::Option {
                zero: false,
                as_text: true,
            },
        ),
        option_as(
            "max_queued_requests",
            Takes::Option {
                zero: false,
                as_text: false,
            },
        ),
        key(
            "backpressure_config",
            OrNull(&Takes::Object(&BACKPRESSURE)),
            EMPTY_MAP,
            "What a request that finds the queue full is answered.",
        ),
        key(
            "user_config",
            Json,
            NULL,
            "Argument of the callable's `reconfigure`.",
        ),
        key(
            "autoscaling_config",
            OrNull(&Takes::Object(&AUTOSCALING)),
            NULL,
            "Between which numbers of replicas the deployment moves.",
        ),
        option("graceful_shutdown_wait_loop_s"),
        option("graceful_shutdown_timeout_s"),
        option("health_check_period_s"),
        option("health_check_timeout_s"),
        option_as(
            "hang_timeout_s",
            OrNull(&Takes::Option {
                zero: false,
                as_text: true,
            }),
        ),
        option_as(
            "max_body_bytes",
            Takes::Option {
                zero: false,
                as_text: true,
            },
        ),
        option("max_constructor_retry_count"),
        option_as(
            "rolling_update_percentage",
            Takes::Option {
                zero: false,
                as_text: true,
            },
        ),
        option("max_surge_percent"),
        option("max_requests_per_replica"),
        option("max_rss"),
        option("min_ready_s"),
        option("start_timeout_s"),
        key(
            "ray_actor_options",
            OrNull(&Takes::Object(&RAY_ACTOR_OPTIONS)),
            EMPTY_MAP,
            "What a replica asks of its machine.",
        ),
        later(
            key(
                "placement_group_bundles",
                OrNull(&List(&Named(Rule::NotEmpty, &ANY_AMOUNT))),
                NULL,
                "Resources of a placement group for each replica.",
            ),
            "placement groups need a cluster; state num_cpus and resources instead",
        ),
        later(
            key(
                "placement_group_strategy",
                OrNull(&Word {
                    words: &["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"],
                    any_case: false,
                }),
                NULL,
                "How the bundles are placed.",
            ),
            "placement groups need a cluster; leave it out",
        ),
        later(
            key(
                "placement_group_bundle_label_selector",
                OrNull(&List(&Named(Rule::NotEmpty, &Text(Rule::Any)))),
                NULL,
                "Labels of the machines that bundles go to.",
            ),
            "placement groups need a cluster; leave it out",
        ),
        key(
            "max_replicas_per_node",
            OrNull(&Whole(1, 100)),
            NULL,
            "How many replicas one machine may run.",
        ),
        key(
            "logging_config",
            OrNull(&Takes::Object(&LOGGING)),
            NULL,
            "How the deployment logs.",
        ),
        key(
            "request_router_config",
            OrNull(&Takes::Object(&REQUEST_ROUTER)),
            EMPTY_MAP,
            "Which class chooses replicas, and how.",
        ),
        later(
            key(
                "gang_scheduling_config",
                OrNull(&Takes::Object(&GANG)),
                NULL,
                "Replicas that start together.",
            ),
            "replicas start one by one; leave it out",
        ),
        later(
            key(
                "deployment_actors",
                OrNull(&List(&Takes::Object(&ACTOR))),
                NULL,
                "Actors that all replicas of the deployment share.",
            ),
            "there are no actors; make the shared part a deployment and pass its handle",
        ),
    ],
    renamed: &[("max_concurrent_queries", "max_ongoing_requests")],
    instead: &[
        ("route_prefix", "it is a key of the application"),
        (
            "version",
            "a deployment's version follows from its code and arguments, so leave it out",
        ),
        ("is_driver_deployment", "write num_replicas instead"),
        ("import_path", "it is a key of the application"),
        (
            "runtime_env",
            "it goes into ray_actor_options, or into the application",
        ),
        ("num_cpus", "it goes into ray_actor_options"),
        ("num_gpus", "it goes into ray_actor_options"),
        ("memory", "it goes into ray_actor_options"),
        ("resources", "it goes into ray_actor_options"),
        ("accelerator_type", "it goes into ray_actor_options"),
        ("min_replicas", "it goes into autoscaling_config"),
        ("max_replicas", "it goes into autoscaling_config"),
        ("initial_replicas", "it goes into autoscaling_config"),
        ("target_ongoing_requests", "it goes into autoscaling_config"),
    ],
    own_keys: false,
    together: rules::deployment,
};

static BACKPRESSURE: Object = Object {
    name: "backpressure_config",
    help: "What a request that finds the queue full is answered.",
    keys: &[
        key("status_code", Choice(&[503, 429]), Is("503"), "Its status."),
        key(
            "retry_after_s",
            OrNull(&ANY_AMOUNT),
            NULL,
            "Seconds of `retry-after`; null: none.",
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

/// What `autoscaling_config` takes.
pub static AUTOSCALING: Object = Object {
    name: "autoscaling_config",
    help: "Between which numbers of replicas a deployment moves, and how quickly.",
    keys: &[
        key(
            "min_replicas",
            Whole(0, MAX_REPLICAS),
            Is("1"),
            "The least number of replicas.",
        ),
        key(
            "initial_replicas",
            OrNull(&Whole(0, MAX_REPLICAS)),
            NULL,
            "Where it begins; null: at min_replicas.",
        ),
        key(
            "max_replicas",
            Whole(1, MAX_REPLICAS),
            Is("1"),
            "The greatest number of replicas.",
        ),
        key(
            "target_ongoing_requests",
            Positive,
            Is("2.0"),
            "Requests that run or wait, per replica, that are aimed at.",
        ),
        key(
            "metrics_interval_s",
            Positive,
            Is("10.0"),
            "Taken; routers say what they have as it changes.",
        ),
        key(
            "look_back_period_s",
            Positive,
            Is("30.0"),
            "Over which time measurements are averaged.",
        ),
        key(
            "smoothing_factor",
            Positive,
            Is("1.0"),
            "The old name of both factors.",
        ),
        key(
            "upscale_smoothing_factor",
            OrNull(&Positive),
            NULL,
            "The old name of upscaling_factor.",
        ),
        key(
            "downscale_smoothing_factor",
            OrNull(&Positive),
            NULL,
            "The old name of downscaling_factor.",
        ),
        key(
            "upscaling_factor",
            OrNull(&Positive),
            NULL,
            "Multiplies each step up; null: 1.",
        ),
        key(
            "downscaling_factor",
            OrNull(&Positive),
            NULL,
            "Multiplies each step down; null: 1.",
        ),
        key(
            "upscale_delay_s",
            ANY_AMOUNT,
            Is("30.0"),
            "For how long the wish for more must last.",
        ),
        key(
            "downscale_delay_s",
            ANY_AMOUNT,
            Is("600.0"),
            "For how long the wish for fewer must last.",
        ),
        key(
            "downscale_to_zero_delay_s",
            OrNull(&ANY_AMOUNT),
            NULL,
            "The same for the last replica; null: downscale_delay_s.",
        ),
        key(
            "aggregation_function",
            Word {
                words: &["mean", "max", "min"],
                any_case: false,
            },
            Is("\"mean\""),
            "How measurements become one number.",
        ),
        key(
            "policy",
            Takes::Object(&POLICY),
            EMPTY_MAP,
            "What decides on the number of replicas.",
        ),
    ],
    renamed: &[(
        "target_num_ongoing_requests_per_replica",
        "target_ongoing_requests",
    )],
    instead: &[
        (
            "max_concurrent_queries",
            "it is max_ongoing_requests of the deployment",
        ),
        (
            "max_ongoing_requests",
            "it is a key of the deployment, beside autoscaling_config",
        ),
        ("num_replicas", "write min_replicas and max_replicas"),
        ("_policy", "write policy: {policy_function: ...}"),
    ],
    own_keys: false,
    together: rules::autoscaling,
};

pub(super) static POLICY: Object = Object {
    name: "an autoscaling policy",
    help: "What decides on a number of replicas.",
    keys: &[
        key(
            "policy_function",
            Text(Rule::ImportPath),
            Is("\"eagleray.serve.autoscaling_policy:default_autoscaling_policy\""),
            "Import path of a function or class that says how many replicas are needed.",
        ),
        key(
            "policy_kwargs",
            JsonObject,
            EMPTY_MAP,
            "Arguments, if it is a class.",
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

/// What `ray_actor_options` takes.
pub static RAY_ACTOR_OPTIONS: Object = Object {
    name: "ray_actor_options",
    help: "What a replica asks of its machine.",
    keys: &[
        key(
            "runtime_env",
            OrNull(&Takes::Object(&RUNTIME_ENV)),
            EMPTY_MAP,
            "What a replica runs in.",
        ),
        key(
            "num_cpus",
            OrNull(&ANY_AMOUNT),
            NULL,
            "CPUs that a replica reserves; it sizes its thread pools too.",
        ),
        key(
            "num_gpus",
            OrNull(&ANY_AMOUNT),
            NULL,
            "GPUs that a replica gets: whole ones, or a part of one.",
        ),
        key(
            "memory",
            OrNull(&ANY_AMOUNT),
            NULL,
            "Bytes of memory that a replica reserves; it is no limit.",
        ),
        key(
            "resources",
            OrNull(&Named(Rule::Resource, &ANY_AMOUNT)),
            EMPTY_MAP,
            "Custom resources that a replica reserves.",
        ),
        later(
            key(
                "accelerator_type",
                OrNull(&Text(Rule::Any)),
                NULL,
                "The type of machine.",
            ),
            "one machine has no types to choose from; leave it out",
        ),
        later(
            key(
                "label_selector",
                OrNull(&Named(Rule::NotEmpty, &Text(Rule::Any))),
                NULL,
                "Labels of the machine.",
            ),
            "one machine has no labels to choose by; leave it out",
        ),
        later(
            key(
                "fallback_strategy",
                OrNull(&List(&JsonObject)),
                NULL,
                "Other labels, where none fits.",
            ),
            "one machine has no labels to choose by; leave it out",
        ),
    ],
    renamed: &[],
    instead: &[
        ("CPU", "write num_cpus"),
        ("GPU", "write num_gpus"),
        (
            "object_store_memory",
            "it has had no effect on a deployment, so leave it out",
        ),
        (
            "max_restarts",
            "replicas that die are replaced, so leave it out",
        ),
        (
            "max_task_retries",
            "replicas that die are replaced, so leave it out",
        ),
        (
            "max_concurrency",
            "it is max_ongoing_requests of the deployment",
        ),
        (
            "num_replicas",
            "it is a key of the deployment, beside ray_actor_options",
        ),
    ],
    own_keys: false,
    together: rules::actor,
};

const ONE_ENVIRONMENT: &str =
    "replicas run in the node's environment, with its packages and code; only env_vars can be set";

/// What `runtime_env` takes.
pub static RUNTIME_ENV: Object = Object {
    name: "runtime_env",
    help: "What a replica runs in.",
    keys: &[
        key(
            "env_vars",
            OrNull(&Named(Rule::EnvironmentVariable, &Text(Rule::Any))),
            EMPTY_MAP,
            "Environment variables.",
        ),
        later(
            key(
                "working_dir",
                OrNull(&Text(Rule::RemoteUri)),
                NULL,
                "The code, as a remote URI.",
            ),
            "replicas run the code that the node can import; leave it out",
        ),
        later(
            key(
                "py_modules",
                OrNull(&List(&Text(Rule::RemoteUri))),
                NULL,
                "Modules, as remote URIs.",
            ),
            "replicas run the code that the node can import; leave it out",
        ),
        foreign("pip"),
        foreign("conda"),
        foreign("uv"),
        foreign("py_executable"),
        foreign("excludes"),
        foreign("container"),
        foreign("image_uri"),
        foreign("config"),
        foreign("eager_install"),
        foreign("java_jars"),
        foreign("mpi"),
        foreign("nsight"),
        foreign("rocprof_sys"),
        foreign("worker_process_setup_hook"),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

const fn foreign(name: &'static str) -> Key {
    later(
        key(name, Json, NULL, "Of Ray's runtime environments."),
        ONE_ENVIRONMENT,
    )
}

/// What `logging_config` takes.
pub static LOGGING: Object = Object {
    name: "logging_config",
    help: "How a deployment logs.",
    keys: &[
        key(
            "encoding",
            Word {
                words: &["TEXT", "JSON"],
                any_case: true,
            },
            Is("\"TEXT\""),
            "Plain lines, or JSON.",
        ),
        key(
            "log_level",
            Level,
            Is("\"INFO\""),
            "Level of the logger `eagleray.serve` in the replicas.",
        ),
        later(
            key(
                "logs_dir",
                OrNull(&Text(Rule::NotEmpty)),
                NULL,
                "Where log files go.",
            ),
            "what replicas write goes to the node's log directory; leave it out",
        ),
        key(
            "enable_access_log",
            Flag,
            Is("true"),
            "Whether requests are in the access log.",
        ),
        key(
            "additional_log_standard_attrs",
            List(&Text(Rule::NotEmpty)),
            EMPTY_LIST,
            "Attributes of `logging.LogRecord` to add to each line.",
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

const NO_POLLING: &str = "routers do not poll: a replica tells them at once when it has room";
const NO_ROUTERS: &str = "record_routing_stats is for custom routers, which are not available yet";

static REQUEST_ROUTER: Object = Object {
    name: "request_router_config",
    help: "Which class chooses replicas, and how.",
    keys: &[
        later_unless(
            key(
                "request_router_class",
                Text(Rule::ImportPath),
                Is("\"eagleray.serve.request_router:PowerOfTwoChoicesRequestRouter\""),
                "Import path of the class.",
            ),
            &[
                "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter",
                "ray.serve._private.request_router.PowerOfTwoChoicesRequestRouter",
                "ray.serve.request_router:PowerOfTwoChoicesRequestRouter",
                "eagleray.serve.request_router.PowerOfTwoChoicesRequestRouter",
            ],
            "requests are routed by power of two choices, and those of one session or model to one replica; leave it out",
        ),
        key(
            "request_router_kwargs",
            JsonObject,
            EMPTY_MAP,
            "Arguments of the class.",
        ),
        kept(
            key(
                "request_routing_stats_period_s",
                Positive,
                Is("10.0"),
                "How often replicas are asked.",
            ),
            NO_ROUTERS,
        ),
        kept(
            key(
                "request_routing_stats_timeout_s",
                Positive,
                Is("30.0"),
                "How long that may take.",
            ),
            NO_ROUTERS,
        ),
        kept(
            key(
                "initial_backoff_s",
                Positive,
                Is("0.025"),
                "The first wait for room.",
            ),
            NO_POLLING,
        ),
        kept(
            key(
                "backoff_multiplier",
                Positive,
                Is("2.0"),
                "How much longer each further wait is.",
            ),
            NO_POLLING,
        ),
        kept(
            key("max_backoff_s", Positive, Is("0.5"), "The longest wait."),
            NO_POLLING,
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

static GANG: Object = Object {
    name: "gang_scheduling_config",
    help: "Replicas that start together or not at all.",
    keys: &[
        key("gang_size", Whole(1, MAX_COUNT), Required, "How many."),
        key(
            "gang_placement_strategy",
            Word {
                words: &["PACK", "SPREAD"],
                any_case: false,
            },
            Is("\"PACK\""),
            "Whether they share a machine.",
        ),
        key(
            "runtime_failure_policy",
            Word {
                words: &["RESTART_GANG"],
                any_case: false,
            },
            Is("\"RESTART_GANG\""),
            "What happens when one fails.",
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

static ACTOR: Object = Object {
    name: "a deployment actor",
    help: "An actor that all replicas of a deployment share.",
    keys: &[
        key("name", Text(Rule::NotEmpty), Required, "Its name."),
        key(
            "actor_class",
            Text(Rule::ImportPath),
            Required,
            "Import path of its class.",
        ),
        key(
            "init_args",
            List(&Json),
            EMPTY_LIST,
            "Arguments by position.",
        ),
        key("init_kwargs", JsonObject, EMPTY_MAP, "Arguments by name."),
        key(
            "actor_options",
            JsonObject,
            EMPTY_MAP,
            "Options of the actor.",
        ),
    ],
    renamed: &[],
    instead: &[],
    own_keys: false,
    together: rules::none,
};

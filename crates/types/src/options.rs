//! Every option of a deployment that a running system obeys: its name, default, range and reach, stated once.
//!
//! An option is one row of the table below. From it come the field of [`DeploymentOptions`], the check of its value, who
//! hears of a change and how the change is named, what a version is hashed over, and the conversions from and to other
//! formats, which ask for every row by its [`Value`]. Nothing else may list options; Python's own are tested against it.
//!
//! The message is part of the control protocol: a row keeps its number, and a message without it reads as zero, so zero
//! must be a value that the option's user can live with.

use std::collections::BTreeMap;

use Takes::{Anything, MoreThanZero, OneOf, Within};

/// How far a change of an option reaches. What lies further out than the innermost that obeys it may read it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The controller obeys it, from its next decision on.
    Controller,
    /// Routers hear of it.
    Router,
    /// Replicas that run hear of it.
    Replica,
    /// It is fixed when a process starts: another value is another version.
    Version,
}

impl Scope {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Router => "router",
            Self::Replica => "replica",
            Self::Version => "version",
        }
    }
}

/// The value of an option, whatever its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Whole(i128),
    Number(f64),
    Flag(bool),
    Text(String),
    Numbers(BTreeMap<String, f64>),
    Texts(BTreeMap<String, String>),
}

/// The values that an option takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Takes {
    Anything,
    /// From the first to the second.
    Within(f64, f64),
    /// Up to this.
    MoreThanZero(f64),
    OneOf(&'static [f64]),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct DeploymentOption {
    /// Name of its field.
    pub key: &'static str,
    pub takes: Takes,
    pub scope: Scope,
    /// Name that people know it by.
    pub named: &'static str,
    pub help: &'static str,
    get: fn(&DeploymentOptions) -> Value,
    set: fn(&mut DeploymentOptions, Value) -> bool,
    copy: fn(&DeploymentOptions, &mut DeploymentOptions),
}

macro_rules! options {
    ($(
        #[prost($($prost:tt)*)]
        $key:ident: $kind:ty = $default:expr, $takes:expr, $scope:ident, $named:literal, $help:literal;
    )*) => {
        /// The options of `@serve.deployment` that a running system needs. Names and defaults are Ray Serve's.
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct DeploymentOptions {
            $(#[doc = $help] #[prost($($prost)*)] pub $key: $kind,)*
        }

        impl DeploymentOptions {
            /// What holds where a user says nothing.
            pub fn standard() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl DeploymentOption {
            /// The table, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self {
                key: stringify!($key),
                takes: $takes,
                scope: Scope::$scope,
                named: $named,
                help: $help,
                get: |options| options.$key.clone().into(),
                set: |options, value| value.try_into().map(|value| options.$key = value).is_ok(),
                copy: |from, to| to.$key.clone_from(&from.$key),
            },)*];
        }
    };
}

/// Thirty years. Times are added to others, so they must be far from what overflows.
const MOST_SECONDS: f64 = 1e9;
const SECONDS: Takes = Within(0.0, MOST_SECONDS);
const POSITIVE_SECONDS: Takes = MoreThanZero(MOST_SECONDS);
const ANY_COUNT: Takes = Within(0.0, f64::INFINITY);
const AT_LEAST_ONE: Takes = Within(1.0, f64::INFINITY);

options! {
    #[prost(uint32, tag = "1")]
    num_replicas: u32 = 1, Within(1.0, 10_000.0), Replica, "num_replicas",
        "How many replicas run; each knows it as the size of its world.";
    #[prost(uint32, tag = "2")]
    max_ongoing_requests: u32 = 5, AT_LEAST_ONE, Replica, "max_ongoing_requests",
        "How many requests one replica works on at a time.";
    #[prost(sint64, tag = "3")]
    max_queued_requests: i64 = -1, Within(-1.0, f64::INFINITY), Router, "max_queued_requests",
        "How many requests may wait in one process that sends them; -1: no limit.";
    #[prost(string, tag = "4")]
    user_config: String = String::new(), Anything, Replica, "user_config",
        "Argument of the callable's `reconfigure`, as JSON; empty: it is not called.";
    #[prost(double, tag = "5")]
    graceful_shutdown_wait_loop_s: f64 = 2.0, SECONDS, Controller, "graceful_shutdown_wait_loop_s",
        "Taken and kept; a replica that drains knows without asking when it is idle.";
    #[prost(double, tag = "6")]
    graceful_shutdown_timeout_s: f64 = 20.0, SECONDS, Replica, "graceful_shutdown_timeout_s",
        "The longest time from the order to stop to the end of the process.";
    #[prost(double, tag = "7")]
    health_check_period_s: f64 = 10.0, POSITIVE_SECONDS, Controller, "health_check_period_s",
        "The time between two health checks of a replica.";
    #[prost(double, tag = "8")]
    health_check_timeout_s: f64 = 30.0, POSITIVE_SECONDS, Replica, "health_check_timeout_s",
        "The longest wait for the answer to a health check.";
    #[prost(uint32, tag = "9")]
    max_constructor_retry_count: u32 = 20, AT_LEAST_ONE, Controller, "max_constructor_retry_count",
        "How often starting is tried anew before a deployment is given up.";
    #[prost(btree_map = "string, double", tag = "10")]
    resources: BTreeMap<String, f64> = BTreeMap::new(), Anything, Version, "the resources",
        "What a replica reserves, by name: `num_cpus`, `num_gpus`, `memory` and custom ones.";
    #[prost(btree_map = "string, string", tag = "11")]
    environment: BTreeMap<String, String> = BTreeMap::new(), Anything, Version, "the environment",
        "Environment variables of a replica: `runtime_env.env_vars`.";
    #[prost(bool, tag = "12")]
    access_log: bool = true, Anything, Replica, "logging_config",
        "Whether requests are in the access log, and calls in the replica's log.";
    #[prost(uint32, tag = "13")]
    backpressure_status: u32 = 503, OneOf(&[503.0, 429.0, 0.0]), Router, "backpressure_config",
        "Status of the answer to a request that finds the queue full; 0: 503.";
    #[prost(double, tag = "14")]
    backpressure_retry_after_s: f64 = 0.0, SECONDS, Router, "backpressure_config",
        "`retry-after` of that answer; 0: none.";
    #[prost(uint64, tag = "15")]
    max_body_bytes: u64 = 67_108_864, ANY_COUNT, Version, "max_body_bytes",
        "Bytes of the longest body that a sync method gets whole; 0: no limit.";
    #[prost(double, tag = "16")]
    hang_timeout_s: f64 = 300.0, SECONDS, Controller, "hang_timeout_s",
        "A replica whose event loop has not turned for so long is ended; 0: never.";
    #[prost(double, tag = "17")]
    rolling_update_percentage: f64 = 0.2, Within(0.0, 1.0), Controller, "rolling_update_percentage",
        "The share of the replicas that an update replaces at a time; 0: 0.2.";
    #[prost(uint32, tag = "18")]
    max_surge_percent: u32 = 0, Within(0.0, 100.0), Controller, "max_surge_percent",
        "How many replicas an update may run above the wanted number, in percent of it; 0: as many as it replaces.";
    #[prost(string, tag = "19")]
    logging: String = String::new(), Anything, Replica, "logging_config",
        "JSON of `logging_config` as far as a replica obeys it; empty: defaults.";
    #[prost(uint64, tag = "20")]
    max_requests_per_replica: u64 = 0, ANY_COUNT, Controller, "max_requests_per_replica",
        "A replica that has accepted so many requests, or nearly, is replaced; 0: none is.";
    #[prost(double, tag = "21")]
    min_ready_s: f64 = 0.0, SECONDS, Controller, "min_ready_s",
        "How long a replica of a new version must have been ready, and well, before an update counts on it.";
    #[prost(uint64, tag = "22")]
    max_rss: u64 = 0, ANY_COUNT, Controller, "max_rss",
        "A replica that has so many bytes in memory is replaced; 0: none is.";
    #[prost(double, tag = "23")]
    start_timeout_s: f64 = 0.0, SECONDS, Controller, "start_timeout_s",
        "A replica that is not ready so long after its start has failed to start; 0: it has all the time that it needs.";
}

/// The most of a resource that a replica may ask for: ten-thousandths of it still fit into 64 bits.
pub const MOST_OF_A_RESOURCE: f64 = 1e15;

/// What is wrong with an amount that is asked for.
fn amount_problem(name: &str, amount: f64) -> Option<String> {
    if !(0.0..=MOST_OF_A_RESOURCE).contains(&amount) {
        return Some(format!(
            "{name} must be a number from 0 to {MOST_OF_A_RESOURCE:e}, got {amount}"
        ));
    }
    let split = name == "num_gpus" && amount > 1.0 && amount.fract() != 0.0;
    split.then(|| {
        format!("num_gpus must be whole above 1, since a replica gets whole devices or a part of one, got {amount}")
    })
}

impl DeploymentOptions {
    /// What replicas that run are told: all that they obey, and zero for the rest.
    #[must_use]
    pub fn of_replica(&self) -> Self {
        let mut view = Self::default();
        for option in DeploymentOption::ALL {
            if option.scope == Scope::Replica {
                (option.copy)(self, &mut view);
            }
        }
        view
    }

    /// What is wrong with the values, one text each.
    pub fn problems(&self) -> Vec<String> {
        let wrong = |option: &&DeploymentOption| !option.takes(&option.of(self));
        let amounts = self.resources.iter();
        DeploymentOption::ALL
            .iter()
            .filter(wrong)
            .map(|option| option.refusal(&option.of(self)))
            .chain(amounts.filter_map(|(name, amount)| amount_problem(name, *amount)))
            .chain(self.two_devices())
            .collect()
    }

    /// It names devices, and asks for some.
    fn two_devices(&self) -> Option<String> {
        let asks = self
            .resources
            .get("num_gpus")
            .is_some_and(|gpus| *gpus > 0.0);
        let names = self.environment.contains_key("CUDA_VISIBLE_DEVICES");
        (asks && names).then(|| {
            "num_gpus sets CUDA_VISIBLE_DEVICES, so it cannot stand in env_vars too; leave one of them out".to_owned()
        })
    }

    /// The options that are another in `new`, of those whose change reaches as far as `concerns` says.
    pub fn changed(
        &self,
        new: &Self,
        concerns: impl Fn(Scope) -> bool,
    ) -> impl Iterator<Item = &'static DeploymentOption> {
        DeploymentOption::ALL
            .iter()
            .filter(move |option| concerns(option.scope))
            .filter(|option| option.of(self) != option.of(new))
    }
}

impl DeploymentOption {
    pub fn of(&self, options: &DeploymentOptions) -> Value {
        (self.get)(options)
    }

    /// # Errors
    /// The value has another type, or does not fit into it. Whether it is in the option's range is another question:
    /// [`DeploymentOptions::problems`].
    pub fn give(&self, options: &mut DeploymentOptions, value: Value) -> Result<(), String> {
        let refusal = format!("{} does not take {}", self.key, value.shown());
        (self.set)(options, value).then_some(()).ok_or(refusal)
    }

    pub fn takes(&self, value: &Value) -> bool {
        let number = match *value {
            Value::Whole(number) => number as f64,
            Value::Number(number) => number,
            _ => return self.takes == Anything,
        };
        match self.takes {
            Anything => true,
            Within(least, most) => (least..=most).contains(&number),
            MoreThanZero(most) => number > 0.0 && number <= most,
            OneOf(all) => all.contains(&number),
        }
    }

    fn refusal(&self, value: &Value) -> String {
        let range = match self.takes {
            Anything => "of its type".to_owned(),
            Within(least, f64::INFINITY) => format!("at least {least}"),
            Within(least, most) => format!("{least} to {most}"),
            MoreThanZero(most) => format!("more than 0, up to {most}"),
            OneOf(all) => all
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" or "),
        };
        let of = if self.named == self.key {
            String::new()
        } else {
            format!(" of {}", self.named)
        };
        format!("{}{of} must be {range}, got {}", self.key, value.shown())
    }
}

impl Value {
    fn shown(&self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            other => format!("{other:?}"),
        }
    }
}

/// Types of options.
macro_rules! values {
    ($($kind:ty as $variant:ident;)*) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::$variant(value.into())
            }
        }

        impl TryFrom<Value> for $kind {
            /// Another type, or too much for this one.
            type Error = ();
            fn try_from(value: Value) -> Result<Self, ()> {
                match value {
                    Value::$variant(inner) => inner.try_into().map_err(drop),
                    _ => Err(()),
                }
            }
        }
    )*};
}

values! {
    u32 as Whole;
    u64 as Whole;
    i64 as Whole;
    f64 as Number;
    bool as Flag;
    String as Text;
    BTreeMap<String, f64> as Numbers;
    BTreeMap<String, String> as Texts;
}

#[cfg(test)]
mod tests;

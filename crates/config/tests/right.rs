//! Right configs: what today's files say, in YAML and JSON, and what goes over the code.

use std::{collections::BTreeMap, fs, path::Path};

use eagleray_config::{
    Config, Format, Merged, Options, Problems, Stage, schema,
    shape::{Object, Standing, Takes},
    table,
};
use eagleray_types::{control::DeploymentOptions, options::DeploymentOption};
use serde_json::{Value as Json, json};

fn config(text: &str) -> Config {
    Config::parse(text, Format::Yaml).unwrap_or_else(|problems| panic!("{}", problems.render("f")))
}

fn map(json: Json) -> Options {
    match json {
        Json::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// What comes of an application's `keys` over the options `code` of its deployment D.
fn over_of(keys: &str, code: Json) -> Result<Merged, Problems> {
    let config = config(&format!("applications: [{{import_path: m:a, {keys}}}]"));
    let code = BTreeMap::from([("D".to_owned(), map(code))]);
    let mut merged = config.applications[0].over(&code)?;
    Ok(merged.remove("D").expect("of the code"))
}

fn over(options: &str, code: Json) -> Merged {
    over_of(&format!("deployments: [{{name: D, {options}}}]"), code)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a file of Ray Serve may have, but what is not available yet.
const EVERYTHING: &str = "
proxy_location: EveryNode
http_options: {host: 0.0.0.0, port: 8000, root_path: /x, request_timeout_s: 30, keep_alive_timeout_s: 90,
  ssl_keyfile: k.pem, ssl_certfile: c.pem, ssl_ca_certs: a.pem, ssl_keyfile_password: null}
grpc_options: {port: 9000, grpc_servicer_functions: [], request_timeout_s: null, enable_reflection: true}
controller_options: {runtime_env: {env_vars: {A: b}}}
logging_config: {encoding: JSON, log_level: INFO, logs_dir: null, enable_access_log: no, additional_log_standard_attrs: [name]}
tracing_config: {enabled: off, exporter_import_path: '', sampling_ratio: 0.01}
target_capacity: 50
x-usual: &usual {graceful_shutdown_timeout_s: 1e1, health_check_period_s: \"5\"}
applications:
- name: app1
  route_prefix: /app1
  import_path: pkg.main:build
  args: {model: small, size: 010, nested: {list: [1, 2.5, ~]}}
  runtime_env: {env_vars: {A: \"1\"}}
  external_scaler_enabled: false
  autoscaling_policy: {policy_function: \"ray.serve.autoscaling_policy:default_autoscaling_policy\", policy_kwargs: {a: 1}}
  logging_config: {log_level: 10}
  deployments:
  - name: Model
    <<: *usual
    num_replicas: auto
    max_ongoing_requests: 10
    max_queued_requests: -1
    backpressure_config: {status_code: 429, retry_after_s: 1.5}
    autoscaling_config: {min_replicas: 1, initial_replicas: 2, max_replicas: 8, target_ongoing_requests: 3,
      metrics_interval_s: 10, look_back_period_s: 30, upscale_delay_s: 0, downscale_delay_s: 600,
      downscale_to_zero_delay_s: null, upscaling_factor: 1, downscaling_factor: null, smoothing_factor: 1,
      upscale_smoothing_factor: null, downscale_smoothing_factor: null, aggregation_function: max,
      policy: {policy_function: \"ray.serve.autoscaling_policy:default_autoscaling_policy\", policy_kwargs: {}}}
    graceful_shutdown_wait_loop_s: 2
    health_check_timeout_s: 30
    max_replicas_per_node: 4
    user_config: {threshold: 0.5, 1: one}
    ray_actor_options: {num_cpus: 0.5, memory: 1e9, num_gpus: 0, resources: {}, accelerator_type: null}
    request_router_config: {request_router_class: ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter,
      request_router_kwargs: {}, request_routing_stats_period_s: 10, initial_backoff_s: 0.025}
    rolling_update_percentage: 0.5
    max_surge_percent: 20
- {name: app2, import_path: pkg.app, route_prefix: null}
";

// contract: 5/keys
#[test]
fn every_key_of_a_file_of_ray_serve_is_taken() {
    let config = config(EVERYTHING);
    let [first, second] = &config.applications[..] else {
        panic!("two applications");
    };
    assert_eq!(
        first.deployments[0].options["graceful_shutdown_timeout_s"],
        json!(10.0)
    );
    assert_eq!(
        first.deployments[0].options["user_config"],
        json!({"threshold": 0.5, "1": "one"})
    );
    assert_eq!(first.args["size"], json!(8));
    assert_eq!(first.path, "applications[0]");
    assert_eq!(
        (second.name.as_str(), second.route_prefix.as_deref()),
        ("app2", None)
    );
    assert_eq!(second.import_path, "pkg.app");
    let warned: Vec<_> = config
        .warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect();
    assert_eq!(warned, ["controller_options", "logging_config",]);
    let json = Config::parse(&config.canonical(), Format::Json).unwrap();
    assert_eq!(json.canonical(), config.canonical());
    assert_eq!(
        Config::of_json(&serde_json::from_str(&config.canonical()).unwrap())
            .unwrap()
            .canonical(),
        config.canonical()
    );
}

#[test]
fn one_config_has_one_canonical_form() {
    let forms = [
        "applications: [{import_path: a:b, args: {x: 1, y: {b: 2, a: 1}}}]\nhttp_options: {port: 80, keep_alive_timeout_s: 5}",
        "http_options: {keep_alive_timeout_s: 5.0, port: \"80\"}\napplications:\n- args: {y: {a: 1, b: 2}, x: 0x1}\n  import_path: 'a:b'\n",
        "{\"http_options\": {\"port\": 80.0, \"keep_alive_timeout_s\": 5}, \"applications\": [{\"import_path\": \"a:b\", \"args\": {\"x\": 1, \"y\": {\"b\": 2, \"a\": 1}}}]}",
    ];
    let canonical = forms.map(|text| config(text).canonical());
    assert_eq!(canonical[0], canonical[1]);
    assert_eq!(canonical[0], canonical[2]);
    assert_eq!(
        canonical[0],
        "{\"applications\":[{\"args\":{\"x\":1,\"y\":{\"a\":1,\"b\":2}},\"import_path\":\"a:b\"}],\"http_options\":{\"keep_alive_timeout_s\":5.0,\"port\":80}}"
    );
    assert_ne!(
        canonical[0],
        config("applications: [{import_path: a:b, args: {x: 2}}]").canonical()
    );
}

// contract: 5/old-names better: taken as today's, with a warning; dropped in silence there
#[test]
fn old_names_are_taken_as_todays_and_said() {
    let config = config(
        "applications: [{import_path: m:a, deployments: [{name: D, max_concurrent_queries: 7}]}]",
    );
    assert_eq!(
        config.applications[0].deployments[0].options["max_ongoing_requests"],
        json!(7)
    );
    assert_eq!(
        config.warnings.render("f"),
        "f:1:59: applications[0].deployments[0].max_concurrent_queries: an old name\n  help: write max_ongoing_requests\n"
    );
    let both = "applications: [{import_path: m:a, deployments: [{name: D, max_concurrent_queries: 7, max_ongoing_requests: 7}]}]";
    let problems = Config::parse(both, Format::Yaml).unwrap_err();
    assert!(
        problems.render("f").contains("are one option"),
        "{problems}"
    );
}

// contract: 5/merge better: key by key; there they are replaced whole
// contract: 5/unset
// contract: 5/user_config better: any value, as in Python
#[test]
fn what_the_config_does_not_say_stays_as_the_code_has_it() {
    let code = json!({
        "max_ongoing_requests": 7,
        "user_config": {"a": 1, "b": 2},
        "ray_actor_options": {"num_cpus": 2, "runtime_env": {"env_vars": {"A": "code", "B": "code"}}},
    });
    let merged = over(
        "user_config: {a: 3}, ray_actor_options: {memory: 5, runtime_env: {env_vars: {A: file}}}",
        code.clone(),
    );
    let options = merged.options().unwrap();
    assert_eq!(options.max_ongoing_requests, 7);
    assert_eq!(
        options.resources,
        BTreeMap::from([("memory".to_owned(), 5.0), ("num_cpus".to_owned(), 2.0)])
    );
    assert_eq!(
        options.environment,
        BTreeMap::from([
            ("A".to_owned(), "file".to_owned()),
            ("B".to_owned(), "code".to_owned())
        ])
    );
    // The user's own value is one.
    assert_eq!(options.user_config, "{\"a\":3}");
    // What the next config leaves out is the code's again.
    let options = over("num_replicas: 2", code).options().unwrap();
    assert_eq!(
        (options.num_replicas, options.user_config.as_str()),
        (2, "{\"a\":1,\"b\":2}")
    );
}

#[test]
fn nothing_said_is_what_holds_where_a_user_says_nothing() {
    assert_eq!(
        over("max_queued_requests: -1", json!({}))
            .options()
            .unwrap(),
        DeploymentOptions::standard()
    );
    let nulls = "num_replicas: null, user_config: null, ray_actor_options: null, logging_config: null, autoscaling_config: null";
    assert_eq!(
        over(nulls, json!({})).options().unwrap(),
        DeploymentOptions::standard()
    );
    let never = DeploymentOptions {
        hang_timeout_s: 0.0,
        ..DeploymentOptions::standard()
    };
    assert_eq!(
        over("hang_timeout_s: null", json!({})).options().unwrap(),
        never
    );
}

// contract: 5/auto
// contract: G/3
#[test]
fn the_last_word_on_the_number_of_replicas_is_one() {
    let scaled =
        json!({"autoscaling_config": {"min_replicas": 2, "max_replicas": 9, "upscale_delay_s": 5}});
    let bounds = |merged: &Merged| {
        merged
            .stated
            .get("autoscaling_config")
            .cloned()
            .unwrap_or(Json::Null)
    };
    // A number switches scaling off.
    let merged = over("num_replicas: 3", scaled.clone());
    assert_eq!(
        (bounds(&merged), merged.options().unwrap().num_replicas),
        (Json::Null, 3)
    );
    let merged = over("num_replicas: 3", json!({"num_replicas": "auto"}));
    assert_eq!(
        (bounds(&merged), merged.options().unwrap().num_replicas),
        (Json::Null, 3)
    );
    // Bounds are over those of the code, key by key.
    let merged = over("autoscaling_config: {max_replicas: 4}", scaled.clone());
    assert_eq!(
        bounds(&merged),
        json!({"min_replicas": 2, "max_replicas": 4, "upscale_delay_s": 5})
    );
    assert_eq!(merged.options().unwrap().num_replicas, 2);
    // Bounds over a number of the code.
    let merged = over(
        "autoscaling_config: {min_replicas: 2, max_replicas: 4}",
        json!({"num_replicas": 8}),
    );
    assert_eq!(merged.options().unwrap().num_replicas, 2);
    // `auto` is from 1 to 100, unless either says otherwise.
    let merged = over("num_replicas: auto", json!({"num_replicas": 8}));
    assert_eq!(
        bounds(&merged),
        json!({"min_replicas": 1, "max_replicas": 100, "target_ongoing_requests": 2.0})
    );
    assert_eq!(merged.options().unwrap().num_replicas, 1);
    let merged = over(
        "num_replicas: auto, autoscaling_config: {max_replicas: 5}",
        scaled.clone(),
    );
    assert_eq!(
        bounds(&merged),
        json!({"min_replicas": 2, "max_replicas": 5, "target_ongoing_requests": 2.0, "upscale_delay_s": 5})
    );
    let merged = over(
        "max_ongoing_requests: 3",
        json!({"num_replicas": "auto", "autoscaling_config": {"min_replicas": 0}}),
    );
    assert_eq!(
        (
            bounds(&merged)["max_replicas"].clone(),
            merged.options().unwrap().num_replicas
        ),
        (json!(100), 1)
    );
    // Null switches it off too.
    let merged = over("autoscaling_config: null", scaled.clone());
    assert_eq!(merged.options().unwrap().num_replicas, 1);
}

// contract: 5/runtime_env
#[test]
fn what_an_application_says_is_under_what_its_deployments_say() {
    let keys = "runtime_env: {env_vars: {A: app, B: app, C: app}}, logging_config: {log_level: debug, enable_access_log: no}, \
                deployments: [{name: D, ray_actor_options: {runtime_env: {env_vars: {C: file}}}}]";
    let code = json!({"ray_actor_options": {"runtime_env": {"env_vars": {"B": "code"}}}});
    let options = over_of(keys, code.clone()).unwrap().options().unwrap();
    let environment: Vec<_> = options
        .environment
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(environment, ["A=app", "B=code", "C=file"]);
    assert!(!options.access_log);
    assert_eq!(
        options.logging,
        "{\"additional_log_standard_attrs\":[],\"encoding\":\"TEXT\",\"log_level\":\"DEBUG\"}"
    );
    let own = json!({"logging_config": {"log_level": "ERROR"}});
    let options = over_of(keys, own).unwrap().options().unwrap();
    assert!(
        options.access_log && options.logging.contains("ERROR"),
        "{}",
        options.logging
    );
    // Also of deployments that the config does not name.
    let options = over_of("runtime_env: {env_vars: {A: app}}", code)
        .unwrap()
        .options()
        .unwrap();
    assert_eq!(options.environment.len(), 2);
}

#[test]
fn what_contradicts_itself_only_once_it_is_merged_is_said_at_its_place() {
    let problem = |options: &str, code: Json| {
        let problems =
            over_of(&format!("deployments: [{{name: D, {options}}}]"), code).unwrap_err();
        let problem = problems.iter().next().unwrap().clone();
        (
            problem.place.unwrap().to_string(),
            problem.path,
            problem.message,
        )
    };
    let (place, path, message) = problem("autoscaling_config: {min_replicas: 3}", json!({}));
    assert_eq!(
        (place.as_str(), path.as_str()),
        (
            "1:79",
            "applications[0].deployments[0].autoscaling_config.min_replicas"
        )
    );
    assert!(
        message.contains("at most max_replicas (1), got 3"),
        "{message}"
    );
    let (place, _, message) = problem("max_replicas_per_node: 2", json!({"num_replicas": 3}));
    assert_eq!(place, "1:82");
    assert!(message.contains("3 replicas are wanted"), "{message}");
    let (place, path, message) = problem(
        "num_replicas: 1",
        json!({"gang_scheduling_config": {"gang_size": 2}}),
    );
    assert_eq!(
        (place.as_str(), path.as_str()),
        (
            "1:49",
            "applications[0].deployments[0].gang_scheduling_config"
        )
    );
    assert!(
        message.contains("not available in this release"),
        "{message}"
    );
}

// contract: 5/unknown-deployment better: with the place, and the nearest name
#[test]
fn a_deployment_that_the_code_does_not_have_is_named_with_the_nearest() {
    let config = config(
        "applications:\n- {name: shop, import_path: m:a, deployments: [{name: Rnak}, {name: Zzzzzz}]}",
    );
    let code = BTreeMap::from([
        ("Rank".to_owned(), Options::new()),
        ("Gate".to_owned(), Options::new()),
    ]);
    let problems = config.applications[0].over(&code).unwrap_err();
    assert_eq!(
        problems.render("f"),
        "f:2:55: applications[0].deployments[0].name: the application \"shop\" has no deployment \"Rnak\"\n  help: did you mean \"Rank\"?\n\
         f:2:69: applications[0].deployments[1].name: the application \"shop\" has no deployment \"Zzzzzz\"\n  help: it has Gate, Rank\n"
    );
    assert!(problems.iter().all(|problem| problem.stage == Stage::Code));
}

/// All objects of the table, each once.
fn objects() -> Vec<&'static Object> {
    let mut found: Vec<&'static Object> = vec![&table::CONFIG];
    let mut next = 0;
    while next < found.len() {
        for key in found[next].keys {
            let mut takes = &key.takes;
            loop {
                match takes {
                    Takes::OrNull(inner) | Takes::List(inner) | Takes::Named(_, inner) => {
                        takes = inner;
                    }
                    Takes::Object(object) => {
                        if !found.iter().any(|known| std::ptr::eq(*known, *object)) {
                            found.push(object);
                        }
                        break;
                    }
                    _ => break,
                }
            }
        }
        next += 1;
    }
    found
}

#[test]
fn the_table_agrees_with_itself_and_with_the_options_of_deployments() {
    let objects = objects();
    assert!(objects.len() >= 15, "{}", objects.len());
    for object in &objects {
        assert!(!object.help.is_empty(), "{}", object.name);
        let known = |name: &str| object.key(name).is_some();
        for key in object.keys {
            assert!(!key.help().is_empty(), "{} of {}", key.name, object.name);
            if let Standing::Kept(why) | Standing::Later { instead: why, .. } = key.standing {
                assert!(!why.is_empty(), "{}", key.name);
            }
        }
        for (old, today) in object.renamed {
            assert!(!known(old) && known(today), "{old}");
        }
        assert!(
            object.instead.iter().all(|(key, _)| !known(key)),
            "{}",
            object.name
        );
    }
    // The default of each key is taken where it is written out.
    let defaults = Json::from(table::CONFIG.with_defaults(&map(json!({"applications": [
        table::APPLICATION.with_defaults(&map(json!({"import_path": "a:b", "deployments": [
            table::DEPLOYMENT.with_defaults(&map(json!({"name": "D"})))
        ]})))
    ]}))));
    let config = Config::of_json(&defaults).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    // Every option is a key, or is made of one.
    let made = [
        "resources",
        "environment",
        "access_log",
        "logging",
        "backpressure_status",
        "backpressure_retry_after_s",
    ];
    for option in DeploymentOption::ALL {
        assert_eq!(
            table::DEPLOYMENT.key(option.key).is_some(),
            !made.contains(&option.key),
            "{}",
            option.key
        );
    }
}

#[test]
fn the_schema_has_every_key_of_the_table_with_its_default() {
    let schema = schema();
    let deployment = schema
        .pointer("/properties/applications/items/properties/deployments/items")
        .unwrap();
    assert_eq!(deployment["required"], json!(["name"]));
    assert_eq!(deployment["additionalProperties"], json!(false));
    for key in table::DEPLOYMENT.keys {
        let property = &deployment["properties"][key.name];
        let described = property["description"].as_str().unwrap();
        assert!(described.starts_with(key.help()), "{described}");
        assert_eq!(
            property.get("default"),
            key.default_value().as_ref(),
            "{}",
            key.name
        );
    }
    assert_eq!(
        deployment["properties"]["max_surge_percent"]["maximum"],
        json!(100)
    );
    assert_eq!(
        deployment["properties"]["num_replicas"]["anyOf"][0]["anyOf"][1],
        json!({"const": "auto"})
    );
    assert_eq!(schema["patternProperties"], json!({"^x-": true}));
}

#[test]
fn the_schema_in_the_documents_is_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("EAGLERAY_WRITE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "EAGLERAY_WRITE_DOCS=1 cargo test -p eagleray-config schema writes docs/config.schema.json"
    );
}

//! Broken configs: each is an error at once, that names the place and says what is wrong.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use eagleray_config::{Config, Format, MOST_BYTES, MOST_PROBLEMS, Problems, Stage, node::Place};

/// What a person does not wait for. Generous: tests run side by side, without optimisation.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The problems of a text, found at once.
fn problems(text: &str, format: Format) -> Problems {
    let began = Instant::now();
    let found = Config::parse(text, format);
    let took = began.elapsed();
    let shown: String = text.chars().take(100).collect();
    assert!(took < AT_ONCE, "{took:?} for {shown}");
    match found {
        Ok(_) => panic!("taken: {shown}"),
        Err(problems) => problems,
    }
}

/// A config with `keys` in its one deployment, on line 6 from column 7.
fn deployment(keys: &str) -> String {
    format!(
        "applications:\n- name: a\n  import_path: m:a\n  deployments:\n    - name: D\n      {keys}\n"
    )
}

/// A config with `keys` in its one application, on line 3 from column 3.
fn application(keys: &str) -> String {
    format!("applications:\n- import_path: m:a\n  {keys}\n")
}

/// A text of JSON.
fn whole(text: &str) -> String {
    serde_json::from_str(text).expect("a text of JSON")
}

/// A config with `keys` at its top, on line 2 from column 1.
fn top(keys: &str) -> String {
    format!("applications: []\n{keys}\n")
}

// contract: 5/unknown better: refused, with the place and the nearest key
// contract: 5/checks better: they are, with everything else
// contract: 5/route_prefix better: when the file is submitted, not during the deploy
// contract: G/2
#[test]
fn a_mistake_is_named_with_its_place_and_what_to_do() {
    let (mut wrap, mut above): (fn(&str) -> String, _) = (top, "");
    let mut format = Format::Yaml;
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("broken.txt").lines() {
        match line {
            "[deployment]" => (wrap, above) = (deployment, "applications[0].deployments[0]"),
            "[application]" => (wrap, above) = (application, "applications[0]"),
            "[top]" => (wrap, above) = (top, ""),
            "[yaml]" => wrap = whole,
            "[json]" => format = Format::Json,
            _ => {}
        }
        let parts: Vec<_> = line.split(" | ").collect();
        let [keys, place, path, said] = parts[..] else {
            continue;
        };
        let found = problems(&wrap(keys), format);
        let text = found.render("f");
        let problem = found.iter().next().unwrap();
        let at = problem.place.map(|place| place.to_string());
        let right = found.iter().len() == 1
            && at.is_some_and(|at| at.starts_with(place))
            && problem.path.starts_with(above)
            && problem.path.ends_with(path)
            && text.contains(said);
        if !right {
            wrong.push(format!("{line}\n   {text}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 210, "{count} lines were understood");
}

#[test]
fn what_is_valid_and_not_there_yet_is_told_apart_from_what_is_wrong() {
    let stage = |keys| {
        problems(&deployment(keys), Format::Yaml)
            .iter()
            .next()
            .unwrap()
            .stage
    };
    assert_eq!(
        stage("ray_actor_options: {accelerator_type: T4}"),
        Stage::Support
    );
    assert_eq!(stage("ray_actor_options: {num_gpus: -1}"), Stage::Schema);
    assert_eq!(stage("ray_actor_options: {num_gpus: 1.5}"), Stage::Schema);
    for keys in [
        "ray_actor_options: {num_gpus: 0, resources: {}, accelerator_type: null, runtime_env: {pip: []}}",
        "placement_group_bundles: null",
        "deployment_actors: []",
        "request_router_config: {request_router_class: \"ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter\"}",
    ] {
        Config::parse(&deployment(keys), Format::Yaml).unwrap();
    }
}

#[test]
fn all_mistakes_are_said_at_once_and_in_their_order() {
    let text = "\
proxy_location: Everywhere
applications:
- name: a
  import_path: nothing
  deployments:
  - name: D
    num_replicas: 0
    max_ongoing_request: 3
  - {name: E, autoscaling_config: {min_replicas: 2, max_replicas: 1}, ray_actor_options: {num_gpus: 1.5}}
- name: a
  import_path: m:a
  route_prefix: /a
- 1
- {name: a, import_path: m:a, num_replicas: 1}
http_option: {}
";
    let found = problems(text, Format::Yaml);
    let said: Vec<_> = found
        .iter()
        .map(|problem| format!("{} {}", problem.place.unwrap(), problem.path))
        .collect();
    assert_eq!(
        said,
        [
            "1:17 proxy_location",
            "4:16 applications[0].import_path",
            "7:19 applications[0].deployments[0].num_replicas",
            "8:5 applications[0].deployments[0].max_ongoing_request",
            "9:50 applications[0].deployments[1].autoscaling_config.min_replicas",
            "9:101 applications[0].deployments[1].ray_actor_options.num_gpus",
            "10:9 applications[1].name",
            "13:3 applications[2]",
            "14:3 applications[3].route_prefix",
            "14:10 applications[3].name",
            "14:31 applications[3].num_replicas",
            "15:1 http_option",
        ]
    );
}

// contract: 5/unique
// contract: 5/replicas-and-autoscaling
// contract: 5/external-scaler
#[test]
fn what_excludes_each_other_is_named() {
    for (text, place, said) in [
        (deployment("{num_replicas: 2, autoscaling_config: {}}").replace("      {", "      ").replace("}}\n", "}\n").replace(", ", "\n      "), "6:21", "exclude each other"),
        (application("external_scaler_enabled: true\n  deployments: [{name: D, num_replicas: auto}]"), "4:41", "external scaler"),
        (application("external_scaler_enabled: true\n  deployments: [{name: D, autoscaling_config: {}}]"), "4:47", "external scaler"),
        ("applications: [{import_path: a:b}, {import_path: a:b, route_prefix: /b}]".to_owned(), "1:36", "the name \"default\""),
        ("applications: [{import_path: a:b}, {import_path: a:b, name: b}]".to_owned(), "1:36", "the route prefix \"/\""),
        ("applications: [{import_path: a:b, route_prefix: null}, {import_path: a:b, name: default, route_prefix: null}]".to_owned(), "1:81", "the name \"default\""),
    ] {
        let found = problems(&text, Format::Yaml);
        let problem = found.iter().next().unwrap();
        assert_eq!(problem.place.unwrap().to_string(), place, "{text}");
        assert!(problem.message.contains(said), "{problem} of {text}");
    }
}

/// Texts that are too much of something.
#[test]
fn a_text_that_stands_for_too_much_is_refused_at_once() {
    let lines = |count: usize, line: fn(usize) -> String| (0..count).map(line).collect::<String>();
    let deep_block = lines(70, |depth| " ".repeat(depth) + "a:\n");
    let bomb = lines(26, |at| match at {
        0 => "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
        _ => format!(
            "a{at}: &a{at} [{}]\n",
            vec![format!("*a{}", at - 1); 9].join(", ")
        ),
    });
    let merges = lines(2_000, |at| match at {
        0 => "a0: &a0 {x0: 1}\n".to_owned(),
        _ => format!("a{at}: &a{at} {{<<: *a{}, x{at}: 1}}\n", at - 1),
    });
    let long_alias = format!(
        "a: &a {}\nb: [{}]",
        "x".repeat(MOST_BYTES / 2),
        "*a, ".repeat(10_000)
    );
    let keys = lines(60_000, |key| format!("k{key}: 1\n"));
    let nested = "[".repeat(70) + &"]".repeat(70);
    let yaml = [
        ("[".repeat(100_000), "1:", "nest more than 64 deep"),
        ("{a: ".repeat(100_000), "", "deep"),
        ("- ".repeat(100_000), "1:129", "nest more than 64 deep"),
        ("? ".repeat(100_000), "1:3", "cannot be a key"),
        (deep_block, "65:65", "nest more than 64 deep"),
        (bomb, "", "more than 50000 values"),
        (merges, "", "more than 50000 values"),
        (keys, "", "more than 50000 values"),
        (
            format!("[{}]", "a,".repeat(MOST_BYTES / 2 - 2)),
            "1:",
            "more than 100000 commas",
        ),
        (long_alias, "", "more than 50000 values"),
        ("x".repeat(MOST_BYTES), "1:1", "must be a mapping"),
        ("\n".repeat(MOST_BYTES), "", "empty"),
        ("[a, ".repeat(20_000), "1:", ""),
        ("x".repeat(MOST_BYTES + 1), "", "bytes or more"),
    ];
    let json = [
        ("[".repeat(100_000), "1:", ""),
        (nested.clone() + "x", "1:141", "no JSON"),
        (nested, "1:65", "nest more than 64 deep"),
        (
            format!("[{}1]", "1,".repeat(60_000)),
            "1:",
            "more than 50000 values",
        ),
        ("x".repeat(MOST_BYTES + 1), "", "bytes or more"),
    ];
    let yaml = yaml.into_iter().map(|row| (row, Format::Yaml));
    for ((text, place, said), format) in yaml.chain(json.into_iter().map(|row| (row, Format::Json)))
    {
        let found = problems(&text, format);
        let problem = found.iter().next().unwrap();
        let at = problem.place.unwrap_or(Place::START).to_string();
        assert_eq!(found.iter().len(), 1, "{problem}");
        assert!(at.starts_with(place), "{at} and not {place}: {problem}");
        assert!(problem.message.contains(said), "{problem}");
    }
}

#[test]
fn of_very_many_mistakes_the_first_are_said_and_the_rest_counted() {
    let keys: Vec<_> = (0..20_000).map(|key| format!("wrong_{key}: 1")).collect();
    let found = problems(&top(&keys.join("\n")), Format::Yaml);
    assert_eq!(
        (found.iter().len(), found.more()),
        (MOST_PROBLEMS, 20_000 - MOST_PROBLEMS)
    );
}

#[test]
fn what_is_said_of_something_long_is_short() {
    let long = "7".repeat(100_000);
    for (text, format) in [
        (top(&format!("{long}: 1")), Format::Yaml),
        (top(&format!("proxy_location: 0.{long}")), Format::Yaml),
        (
            top(&format!("http_options: {{host: 0.{long}}}")),
            Format::Yaml,
        ),
        (top(&format!("proxy_location: !<{long}> x")), Format::Yaml),
        (format!("{{\"{long}\": 1}}"), Format::Json),
        (
            format!("{{\"applications\": [], \"logging_config\": {{\"log_level\": \"{long}\"}}}}"),
            Format::Json,
        ),
        (
            format!("{{\"applications\": [], \"{long}\": 1, \"{long}\": 1}}"),
            Format::Json,
        ),
        (format!("[{long}]"), Format::Json),
    ] {
        let said = problems(&text, format).render("f");
        assert!(said.len() < 1_000, "{} bytes", said.len());
    }
}

fn read_problem(path: &Path) -> String {
    let began = Instant::now();
    let found = Config::read(path).expect_err("nothing to read").render("f");
    assert!(began.elapsed() < AT_ONCE);
    found
}

#[test]
fn only_a_regular_file_of_bounded_length_in_utf_8_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(read_problem(&path("none.yaml")).contains("cannot be opened: No such file"));
    assert!(read_problem(folder.path()).contains("a directory; name the file in it"));
    // Nobody writes to it, and nobody waits for that.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert!(read_problem(&path("fifo")).contains("no regular file"));
    assert!(read_problem(Path::new("/dev/zero")).contains("no regular file"));
    let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    assert!(read_problem(&path("socket")).contains("cannot be opened"));
    drop(socket);
    // As long as a hundred megabytes, and none of them on the disk.
    fs::File::create(path("long.yaml"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    assert!(
        read_problem(&path("long.yaml"))
            .contains("104857600 bytes or more, and a config has at most 1048576")
    );
    fs::write(path("latin.yaml"), b"applications: []\n# caf\xe9\n").unwrap();
    assert!(read_problem(&path("latin.yaml")).contains("f:2:6: not UTF-8"));
    fs::write(path("wide.yaml"), [0xff, 0xfe, b'a', 0]).unwrap();
    assert!(read_problem(&path("wide.yaml")).contains("f:1:1: not UTF-8"));
    fs::write(path("empty.yaml"), "").unwrap();
    assert!(read_problem(&path("empty.yaml")).contains("empty"));
    fs::write(path("right.yaml"), "\u{feff}applications: []").unwrap();
    assert_eq!(Config::read(&path("right.yaml")).unwrap().applications, []);
    fs::write(path("right.JSON"), "{\"applications\": []}").unwrap();
    Config::read(&path("right.JSON")).unwrap();
    std::os::unix::fs::symlink(path("right.yaml"), path("link.yaml")).unwrap();
    Config::read(&path("link.yaml")).unwrap();
}

/// What one would write, with one thing wrong at a random place: never taken as something else, never without a place.
#[test]
fn generated_mistakes_are_named_where_they_are() {
    let right = "\
proxy_location: EveryNode
http_options: {host: 0.0.0.0, port: 8000, request_timeout_s: 30}
logging_config: {encoding: JSON, log_level: info}
applications:
- name: shop
  route_prefix: /shop
  import_path: shop.main:build
  args: {size: small}
  runtime_env: {env_vars: {A: '1'}}
  deployments:
  - name: Rank
    num_replicas: 2
    max_ongoing_requests: 10
    user_config: {threshold: 0.5}
    ray_actor_options: {num_cpus: 1}
";
    Config::parse(right, Format::Yaml).unwrap();
    let lines: Vec<&str> = right.lines().collect();
    let mut count = 0;
    for (number, line) in lines.iter().enumerate() {
        for (at, character) in line.char_indices() {
            // A letter more in a key is a key that is not known.
            let before = &line[..at];
            let in_key = character == ':'
                && !before.contains(['\'', '"'])
                && before.ends_with(char::is_alphanumeric);
            if !in_key
                || ["args", "env_vars", "user_config"]
                    .iter()
                    .any(|own| before.contains(own) && !before.ends_with(own))
            {
                continue;
            }
            let mut changed = lines.clone();
            let broken = format!("{before}q{}", &line[at..]);
            changed[number] = &broken;
            if before.ends_with("main") {
                continue;
            }
            let found = problems(&changed.join("\n"), Format::Yaml);
            let named = found.iter().any(|problem| {
                problem
                    .place
                    .is_some_and(|place| place.line as usize == number + 1)
                    && problem.message.contains("unknown key")
            });
            assert!(named, "{broken}: {}", found.render("f"));
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

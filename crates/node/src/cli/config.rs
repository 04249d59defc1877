//! `eagleray config check` and `eagleray schema`: what a config file is worth, without a node.

use std::{
    io::{self, Read},
    path::Path,
};

use eagleray_config::{Config, Format, MOST_BYTES, Problem, Problems, Stage};
use serde_json::{Value, json};

use super::{CheckArguments, remark, say};
use crate::settings::ProxyOptions;

/// Problems and warnings go to standard error, as `FILE:LINE:COLUMN: PATH: MESSAGE`, and the verdict to standard output;
/// with `--json` all of it goes there.
pub(super) fn check(arguments: &CheckArguments) -> Result<(), String> {
    let file = arguments.file.display().to_string();
    let judged = read(&arguments.file).and_then(|config| {
        let problems = http(&config);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    });
    let (verdict, problems, warnings) = match judged {
        Ok(config) => {
            let applications = config.applications.len();
            let plural = if applications == 1 { "" } else { "s" };
            let verdict = Ok(format!(
                "{file} is right: {applications} application{plural}"
            ));
            (verdict, Problems::default(), config.warnings)
        }
        Err(problems) => {
            let count = problems.iter().len() + problems.more();
            let plural = if count == 1 { "" } else { "s" };
            let verdict = Err(format!("{file} has {count} problem{plural}"));
            (verdict, problems, Problems::default())
        }
    };
    if arguments.json {
        let json = json!({"problems": list(&problems), "warnings": list(&warnings)});
        say(&format!("{json:#}"));
        return verdict.map(drop);
    }
    remark(&problems.render(&file));
    remark(&warnings.render_warnings(&file));
    verdict.map(|verdict| say(&verdict))
}

pub(super) fn schema() {
    say(&format!("{:#}", eagleray_config::schema()));
}

fn read(file: &Path) -> Result<Config, Problems> {
    if file != Path::new("-") {
        return Config::read(file);
    }
    let mut bytes = Vec::new();
    let most = MOST_BYTES as u64 + 1;
    let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
    read.map_err(|error| eagleray_config::unreadable(&error))?;
    eagleray_config::text(bytes).and_then(|text| Config::parse(&text, Format::Yaml))
}

/// What the proxy says of `http_options`: it alone knows its limits, and what a network and a host are.
fn http(config: &Config) -> Problems {
    let options = config.node.get("http_options");
    let texts = |key: &str| -> Vec<String> {
        let list = options.and_then(|options| options.get(key)?.as_array());
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let mut found = Problems::default();
    let mut judge = |options: ProxyOptions, path: &dyn Fn(&str) -> String| {
        for message in options.check().err().unwrap_or_default() {
            let path = path(&message);
            found.push(Problem {
                stage: Stage::Schema,
                place: config.place(&path),
                path,
                message,
                help: String::new(),
            });
        }
    };
    for (index, network) in texts("trusted_proxies").into_iter().enumerate() {
        let options = ProxyOptions {
            trusted_proxies: vec![network],
            ..ProxyOptions::default()
        };
        judge(options, &|_| {
            format!("http_options.trusted_proxies[{index}]")
        });
    }
    for (index, host) in texts("allowed_hosts").into_iter().enumerate() {
        let options = ProxyOptions {
            allowed_hosts: vec![host],
            ..ProxyOptions::default()
        };
        judge(options, &|_| format!("http_options.allowed_hosts[{index}]"));
    }
    let limits = options.and_then(|options| options.get("limits")?.as_object());
    let limits = limits.into_iter().flatten();
    let limits = limits.filter_map(|(key, number)| Some((key.clone(), number.as_f64()?)));
    let options = ProxyOptions {
        limits: limits.collect(),
        ..ProxyOptions::default()
    };
    let names: Vec<_> = options.limits.keys().cloned().collect();
    judge(options, &|message| {
        // The one that it speaks of is named before the nearest, if any is.
        let named = |name: &&String| message.find(name.as_str()).unwrap_or(usize::MAX);
        match names.iter().min_by_key(named) {
            Some(name) if message.contains(name) => format!("http_options.limits.{name}"),
            _ => "http_options.limits".to_owned(),
        }
    });
    found
}

fn list(problems: &Problems) -> Value {
    let one = |problem: &Problem| {
        json!({
            "path": problem.path,
            "line": problem.place.map(|place| place.line),
            "column": problem.place.map(|place| place.column),
            "message": problem.message,
            "help": problem.help,
        })
    };
    problems.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_proxy_does_not_take_is_said_at_its_place() {
        let text = "applications: []\nhttp_options:\n  limits: {header_count: 200, header_cuont: 1, uri_bytes: 1e9}\n  \
                    trusted_proxies: [10.0.0.0/8, 10.0.0.0/99]\n  allowed_hosts: [example.com, 'a b']\n";
        let config =
            Config::parse(text, Format::Yaml).expect("right as far as is known without the proxy");
        let found = http(&config);
        let places: Vec<_> = found
            .iter()
            .map(|problem| format!("{} {}", problem.place.expect("in the text"), problem.path))
            .collect();
        assert_eq!(
            places,
            [
                "4:33 http_options.trusted_proxies[1]",
                "5:32 http_options.allowed_hosts[1]",
                "3:45 http_options.limits.header_cuont",
                "3:59 http_options.limits.uri_bytes",
            ]
        );
        let right = "applications: []\nhttp_options: {limits: {memory_drain_percent: 50, memory_shed_percent: 60}}";
        assert!(http(&Config::parse(right, Format::Yaml).expect("right")).is_empty());
    }
}

//! What the proxy says of a config's `http_options`: it alone knows its limits, and what a network and a host are.

use eagleray_config::{Config, Problem, Problems, Stage};
use serde_json::Value;

use crate::settings::ProxyOptions;

/// The keys that name files.
const FILES: [&str; 3] = ["ssl_certfile", "ssl_keyfile", "ssl_ca_certs"];

/// All that it does not take, each at its place.
pub(crate) fn http_options(config: &Config) -> Problems {
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

/// The same, and what is wrong with the files that it names: for the machine where they are read.
pub(crate) fn http_options_and_files(config: &Config) -> Problems {
    let mut found = http_options(config);
    let options = config.node.get("http_options").and_then(Value::as_object);
    let Some(stated) = options.filter(|_| found.is_empty()) else {
        return found;
    };
    let files: Vec<_> = FILES
        .iter()
        .filter_map(|key| stated.get(*key)?.as_str())
        .collect();
    // What is named by half its path is the controller's to judge.
    if !files.iter().all(|file| file.starts_with('/')) {
        return found;
    }
    if let Err(message) = ProxyOptions::of_config(stated).check_files() {
        let key = FILES.iter().find(|key| message.starts_with(**key));
        let path = format!("http_options.{}", key.unwrap_or(&"ssl_certfile"));
        found.push(Problem {
            stage: Stage::Schema,
            place: config.place(&path),
            path,
            message,
            help: "nothing was changed; mend the file, or name another".to_owned(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use eagleray_config::Format;

    use super::*;

    #[test]
    fn what_the_proxy_does_not_take_is_said_at_its_place() {
        let text = "applications: []\nhttp_options:\n  limits: {header_count: 200, header_cuont: 1, uri_bytes: 1e9}\n  \
                    trusted_proxies: [10.0.0.0/8, 10.0.0.0/99]\n  allowed_hosts: [example.com, 'a b']\n";
        let config =
            Config::parse(text, Format::Yaml).expect("right as far as is known without the proxy");
        let found = http_options(&config);
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
        let files =
            "applications: []\nhttp_options: {ssl_certfile: /none/c.pem, ssl_keyfile: /none/k.pem}";
        let config = Config::parse(files, Format::Yaml).expect("right, without the files");
        assert!(http_options(&config).is_empty());
        let found = http_options_and_files(&config);
        let problem = found.iter().next().expect("one");
        assert_eq!(problem.path, "http_options.ssl_certfile");
        assert!(
            problem.message.contains("/none/c.pem: cannot be read"),
            "{problem:?}"
        );
        let right = "applications: []\nhttp_options: {limits: {memory_drain_percent: 50, memory_shed_percent: 60}}";
        assert!(http_options(&Config::parse(right, Format::Yaml).expect("right")).is_empty());
    }
}

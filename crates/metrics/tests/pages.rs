//! What is generated from the registry: the page of reference, the boards for Grafana and the rules for Prometheus.
//!
//! The tests compare the files with what the registry says. After a change of it, `EAGLERAY_WRITE=1 cargo test -p
//! eagleray-metrics --test pages` writes them anew.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, io, path::Path};

use eagleray_metrics::registry::{ALL, Board, Definition, Panel, Source};
use serde_json::{Value, json};

/// As the text for Prometheus has it.
fn exposed(one: &Definition) -> String {
    let is_counter = one.kind.word() == "counter";
    if is_counter && !one.name.ends_with("_total") {
        format!("{}_total", one.name)
    } else {
        one.name.to_owned()
    }
}

fn compare(path: &str, text: &str) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    if env::var_os("EAGLERAY_WRITE").is_some() {
        fs::write(&path, text)?;
    }
    let hint = "EAGLERAY_WRITE=1 cargo test -p eagleray-metrics --test pages";
    let path = path.display();
    assert!(
        fs::read_to_string(path.to_string())? == text,
        "{path} is not what the registry says; run {hint}"
    );
    Ok(())
}

#[test]
fn the_page_of_reference_is_what_the_registry_says() {
    let mut page = String::from(
        "# Metrics\n\nGenerated from `crates/metrics/src/registry.rs`; [monitoring](../guides/monitoring.md) says how to use \
         them. Times are milliseconds. With `--metrics-prefix ray_` every name begins with `ray_`. Histograms have their labels \
         `replica` and `actor_id` only with `--metrics-replica-labels all`; with `none` nothing has them.\n",
    );
    for (from, title) in [
        (Source::Proxy, "HTTP"),
        (
            Source::Router,
            "Routing: of proxies, and of processes with handles",
        ),
        (Source::Replica, "Replicas"),
        (Source::Controller, "What should run and what does"),
        (Source::Node, "Processes"),
    ] {
        write!(
            page,
            "\n## {title}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n"
        )
        .unwrap();
        for one in ALL.iter().filter(|one| one.from == from) {
            let labels: Vec<String> = one
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                exposed(one),
                one.kind.word(),
                labels.join(", "),
                one.help
            )
            .unwrap();
        }
    }
    page.push_str("\n## Buckets\n\n| histogram | upper bounds |\n|---|---|\n");
    for one in ALL.iter().filter(|one| one.kind.is_histogram()) {
        let bounds: Vec<String> = one.bounds.iter().map(ToString::to_string).collect();
        writeln!(page, "| `{}` | {} |", one.name, bounds.join(", ")).unwrap();
    }
    compare("docs/reference/metrics.md", &page).unwrap();
}

#[test]
fn the_rules_for_prometheus_are_what_the_registry_says() {
    let mut rules = String::from(
        "# Generated from crates/metrics/src/registry.rs.\ngroups:\n  - name: eagleray\n    rules:\n",
    );
    for alert in ALL.iter().flat_map(|one| one.alerts) {
        // JSON strings are YAML strings.
        let text = |text: &str| Value::from(text).to_string();
        write!(
            rules,
            "      - alert: {}\n        expr: {}\n        for: {}\n        annotations:\n          summary: {}\n",
            alert.name,
            text(alert.expression),
            alert.for_time,
            text(alert.summary)
        )
        .unwrap();
    }
    compare("deploy/prometheus/eagleray.rules.yml", &rules).unwrap();
}

fn variable(name: &str, metric: &str, filter: &str) -> Value {
    json!({
        "name": name,
        "type": "query",
        "label": name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": format!("label_values({metric}{filter}, {name})"), "refId": name},
        "refresh": 2,
        "includeAll": true,
        "multi": true,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    })
}

fn graph(number: usize, panel: &Panel, help: &str) -> Value {
    json!({
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": help,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number / 2)},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "expr": panel.expression, "legendFormat": "__auto"}],
    })
}

#[test]
fn the_boards_are_what_the_registry_says() {
    for (board, name, title) in [
        (Board::Overview, "overview", "Eagleray: overview"),
        (Board::Deployment, "deployment", "Eagleray: deployments"),
        (Board::Replica, "replica", "Eagleray: replicas"),
    ] {
        let panels = ALL
            .iter()
            .flat_map(|one| one.panels.iter().map(move |panel| (panel, one.help)))
            .filter(|(panel, _)| panel.board == board);
        let panels: Vec<Value> = panels
            .enumerate()
            .map(|(number, (panel, help))| graph(number, panel, help))
            .collect();
        let mut variables =
            vec![json!({"name": "datasource", "type": "datasource", "query": "prometheus"})];
        if board != Board::Overview {
            let wanted = "eagleray_deployment_replicas_wanted";
            variables.push(variable("application", wanted, ""));
            let of = "{application=~\"$application\"}";
            variables.push(variable("deployment", wanted, of));
        }
        let json = json!({
            "uid": format!("eagleray-{name}"),
            "title": title,
            "tags": ["eagleray"],
            "schemaVersion": 39,
            "time": {"from": "now-1h", "to": "now"},
            "refresh": "10s",
            "templating": {"list": variables},
            "panels": panels,
        });
        let text = serde_json::to_string_pretty(&json).unwrap() + "\n";
        compare(&format!("deploy/grafana/eagleray-{name}.json"), &text).unwrap();
    }
}

#[test]
fn names_are_apart_and_are_ones_that_prometheus_takes() {
    let mut names = BTreeSet::new();
    for one in ALL {
        assert!(names.insert(exposed(one)), "{} is declared twice", one.name);
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(one.name.bytes().all(fits), "{}", one.name);
        assert!(one.help.ends_with('.'), "{}: help is a sentence", one.name);
        let is_histogram = one.kind.is_histogram();
        assert_eq!(is_histogram, !one.bounds.is_empty(), "{}", one.name);
        assert!(one.bounds.is_sorted(), "{}", one.name);
    }
}

//! `eagleray status --resources`: what each node has, which replicas hold it, and which wait for it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::Api,
    exit::Exit,
    output::{say, say_all},
    screen::{Paint, Screen},
    table::{Cell, Table},
    trouble::{Outcome, Trouble},
    words::{duration, now},
};

const PATH: &str = "/api/v1/resources";
const GIBIBYTE: f64 = 1_073_741_824.0;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    nodes: Vec<Node>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the keys of REST")]
struct Node {
    node_id: String,
    resources: BTreeMap<String, Resource>,
    devices: Vec<Device>,
    holders: Vec<Holder>,
    pending: Vec<Pending>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource {
    total: f64,
    used: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Device {
    id: String,
    model: Option<String>,
    used: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Holder {
    application: String,
    deployment: String,
    replica_id: String,
    resources: BTreeMap<String, f64>,
    devices: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pending {
    application: String,
    deployment: String,
    since_s: Option<f64>,
    sentence: String,
}

pub(crate) fn run(api: &Api, json: bool) -> Outcome {
    let answer: Value = api.get(PATH, &[])?;
    if json {
        say(&format!("{answer:#}"));
        return Ok(Exit::Done);
    }
    let resources: Resources = serde_json::from_value(answer).map_err(|error| {
        let message = format!("the resources cannot be read: {error}");
        Trouble::new(Exit::Unknown, "answer", message)
            .help("the node is of another release: use the command of its environment")
    })?;
    say_all(&lines(&resources, &Screen::of_output(), now()));
    Ok(Exit::Done)
}

fn lines(resources: &Resources, screen: &Screen, now: f64) -> Vec<String> {
    let mut lines = Vec::new();
    for node in &resources.nodes {
        lines.push(format!("node {}", node.node_id));
        let mut table = Table::new(&["  RESOURCE", ">USED", ">TOTAL", ""]);
        for (name, one) in &node.resources {
            let note = match name.as_str() {
                "num_gpus" => devices(&node.devices),
                _ => String::new(),
            };
            table.row(vec![
                Cell::new(format!("  {name}")),
                Cell::new(amount(name, one.used)),
                Cell::new(amount(name, one.total)),
                Cell::painted(note, Paint::Faint),
            ]);
        }
        lines.extend(table.lines(screen));
        if !node.holders.is_empty() {
            lines.push(String::new());
            lines.extend(holders(&node.holders).lines(screen));
        }
        if !node.pending.is_empty() {
            lines.push(String::new());
            lines.extend(pending(&node.pending, now).lines(screen));
        }
    }
    lines
}

/// `0 H200: 0.5 used, 1 H200: free`.
fn devices(devices: &[Device]) -> String {
    let said = devices.iter().map(|device| {
        let used = match device.used {
            0.0 => "free".to_owned(),
            used => format!("{used} used"),
        };
        let model = device.model.as_deref().unwrap_or_default();
        let name = [device.id.as_str(), model].join(" ");
        format!("{}: {used}", name.trim_end())
    });
    said.collect::<Vec<_>>().join(", ")
}

fn holders(holders: &[Holder]) -> Table {
    let mut table = Table::new(&["  HELD BY", "REPLICA", "HOLDS"]);
    for one in holders {
        let held = one.resources.iter();
        let mut held: Vec<String> = held
            .map(|(name, held)| format!("{name} {}", amount(name, *held)))
            .collect();
        if !one.devices.is_empty() {
            held.push(format!("(devices {})", one.devices.join(",")));
        }
        table.row(vec![
            Cell::new(format!("  {}/{}", one.application, one.deployment)),
            Cell::new(&one.replica_id),
            Cell::new(held.join(" ")),
        ]);
    }
    table
}

fn pending(pending: &[Pending], now: f64) -> Table {
    let mut table = Table::new(&["  PENDING", "FOR", "WHY"]);
    for one in pending {
        let since = one.since_s.map(|since| duration(now - since));
        table.row(vec![
            Cell::painted(
                format!("  {}/{}", one.application, one.deployment),
                Paint::Warning,
            ),
            Cell::new(since.unwrap_or_default()),
            Cell::new(&one.sentence),
        ]);
    }
    table
}

fn amount(name: &str, amount: f64) -> String {
    if name == "memory" && amount >= GIBIBYTE / 10.0 {
        format!("{:.1}Gi", amount / GIBIBYTE)
    } else {
        amount.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_sees_what_there_is_who_has_it_and_who_waits() {
        let answer = json!({"nodes": [{
            "node_id": "n1",
            "resources": {
                "memory": {"total": 8_589_934_592_u64, "used": 0},
                "num_gpus": {"total": 2, "used": 0.5},
            },
            "devices": [{"id": "GPU-a", "model": "H200", "used": 0.5}, {"id": "GPU-b", "used": 0}],
            "holders": [{
                "application": "shop", "deployment": "Rank", "replica_id": "q7f2",
                "resources": {"num_gpus": 0.5}, "devices": ["GPU-a"],
            }],
            "pending": [{
                "application": "shop", "deployment": "Embed", "since_s": 90.0, "sentence": "1 replica waits.",
            }],
        }]});
        let resources: Resources = serde_json::from_value(answer).unwrap();
        let said = lines(&resources, &crate::screen::plain(120), 100.0);
        let said: Vec<&str> = said.iter().map(|line| line.trim_end()).collect();
        assert_eq!(
            said,
            [
                "node n1",
                "  RESOURCE  USED  TOTAL",
                "  memory       0  8.0Gi",
                "  num_gpus   0.5      2  GPU-a H200: 0.5 used, GPU-b: free",
                "",
                "  HELD BY    REPLICA  HOLDS",
                "  shop/Rank  q7f2     num_gpus 0.5 (devices GPU-a)",
                "",
                "  PENDING     FOR     WHY",
                "  shop/Embed  10.0 s  1 replica waits.",
            ]
        );
    }
}

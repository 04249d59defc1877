//! What is said of resources: who has what of a node, and what replicas wait for.

use eagleray_types::control::{PendingResources, ResourceHolder, ResourcesStatus, UNIT};

use super::outbox::Outbox;
use crate::books::resources::{GPUS, Lack, Resources, Waiting};

/// So many holders are named.
const NAMED: usize = 4;
const MEBIBYTE: u64 = 1 << 20;

/// `1 replica waits for num_gpus 1; the node has 2, and 0 of it is free: a/D r1 holds 1, a/D r2 holds 1.`
pub(super) fn sentence(resources: &Resources, waiting: &Waiting) -> String {
    let lack = &waiting.lack;
    let name = lack.name.as_str();
    let replicas = match waiting.replicas {
        1 => "1 replica waits".to_owned(),
        count => format!("{count} replicas wait"),
    };
    let each = if waiting.replicas == 1 { "" } else { " each" };
    let (asked, total, free) = (
        amount(name, lack.asked),
        amount(name, lack.total),
        amount(name, lack.free),
    );
    let has = if lack.total == 0 {
        format!("{replicas} for {name} {asked}{each}, of which the node has none")
    } else {
        let pieces = if name == GPUS { " on one device" } else { "" };
        let pieces = if lack.asked < UNIT { pieces } else { "" };
        format!(
            "{replicas} for {name} {asked}{each}; the node has {total}, and {free}{pieces} of it is free"
        )
    };
    let held: Vec<String> = resources
        .holders()
        .filter_map(|(id, holder)| {
            let held = holder.share.amounts.get(name)?;
            Some(format!(
                "{} {id} holds {}",
                holder.deployment,
                amount(name, *held)
            ))
        })
        .collect();
    let more = held.len().saturating_sub(NAMED);
    let named = held.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    let said = match (named.is_empty(), more) {
        (true, _) => format!("{has}."),
        (false, 0) => format!("{has}: {named}."),
        (false, more) => format!("{has}: {named}, and {more} more."),
    };
    if waiting.makes_room {
        return format!(
            "{said} A replica that it replaces ends first, since both do not fit; it starts when that is gone."
        );
    }
    said
}

/// What to do about it.
pub(super) fn help(waiting: &Waiting) -> String {
    let lack = &waiting.lack;
    let name = &lack.name;
    if lack.asked > lack.total {
        let flag = match name.as_str() {
            GPUS => "--num-gpus".to_owned(),
            "num_cpus" => "--num-cpus".to_owned(),
            "memory" => "--memory".to_owned(),
            name => format!("--resources '{{\"{name}\": N}}'"),
        };
        return format!(
            "It never fits here. Ask for less in ray_actor_options, or start the node with more: eagleray start {flag}"
        );
    }
    format!(
        "It starts by itself when there is room. Make some: stop or scale down what holds {name}, or ask for less. Who has \
         what: eagleray status --resources"
    )
}

/// As people write them.
pub(super) fn asked_and_total(lack: &Lack) -> (String, String) {
    let name = lack.name.as_str();
    (amount(name, lack.asked), amount(name, lack.total))
}

/// `1`, `0.5`; of memory `512 MiB`.
fn amount(name: &str, amount: u64) -> String {
    let bytes = amount / UNIT;
    if name == "memory" && bytes >= MEBIBYTE {
        return format!("{} MiB", bytes.div_ceil(MEBIBYTE));
    }
    let fraction = format!("{:04}", amount % UNIT);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        format!("{}", amount / UNIT)
    } else {
        format!("{}.{fraction}", amount / UNIT)
    }
}

/// Who has what of the node, and who waits.
pub(super) fn shown(resources: &Resources, out: &Outbox) -> ResourcesStatus {
    let (used, devices) = resources.used();
    let holders = resources.holders().map(|(id, holder)| ResourceHolder {
        application: holder.deployment.application.clone(),
        deployment: holder.deployment.deployment.clone(),
        replica_id: id.clone(),
        share: Some(holder.share.clone()),
    });
    let pending = resources
        .all_waiting()
        .map(|(key, waiting)| PendingResources {
            application: key.application.clone(),
            deployment: key.deployment.clone(),
            replicas: waiting.replicas as u32,
            asked: waiting.demand.0.clone(),
            missing: waiting.lack.name.clone(),
            since_s: out.wall_time_s(waiting.since),
            sentence: sentence(resources, waiting),
        });
    let has = resources.has().cloned();
    let count = has.as_ref().map_or(0, |has| has.devices.len());
    let devices = (0..count).map(|number| devices.get(number).copied().unwrap_or_default());
    ResourcesStatus {
        node_id: out.options.node.to_string(),
        used: used.clone(),
        devices_used: devices.collect(),
        holders: holders.collect(),
        pending: pending.collect(),
        has,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_said_as_people_write_them() {
        for (name, given, said) in [
            (GPUS, UNIT, "1"),
            (GPUS, UNIT / 2, "0.5"),
            ("x", 3_333, "0.3333"),
            ("memory", 2 * MEBIBYTE * UNIT, "2 MiB"),
            ("memory", 100 * UNIT, "100"),
        ] {
            assert_eq!(amount(name, given), said);
        }
    }
}

//! What this machine has to give to replicas: as it is declared, or else as it is found.
//!
//! CPUs are those that this process may run on, memory is the machine's or its container's, GPUs are NVIDIA's
//! ([`nvidia`]). Other GPUs and custom resources are there if they are declared. Where `CUDA_VISIBLE_DEVICES` is set, it says
//! which GPUs this node may give out, and by which names. A declaration that names more than that is refused: a replica
//! with a device that is not there would find none at all, and run on the CPU without a word.

mod nvidia;

use std::{collections::BTreeMap, env, thread};

use eagleray_types::control::{Device, NodeResources, UNIT};
use serde::{Deserialize, Serialize};

use crate::memory;

const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
/// More than any machine has.
const MOST_GPUS: u32 = 1024;
/// Ten-thousandths of it still fit into 64 bits.
const MOST: f64 = 1e15;
/// Names with options of their own.
const OWN_NAMES: [(&str, &str); 6] = [
    ("CPU", "num-cpus"),
    ("GPU", "num-gpus"),
    ("memory", "memory"),
    ("num_cpus", "num-cpus"),
    ("num_gpus", "num-gpus"),
    ("object_store_memory", "memory"),
];

/// What somebody says that the machine has; what is not said is found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Declared {
    pub num_cpus: Option<f64>,
    pub num_gpus: Option<u32>,
    /// Bytes.
    pub memory: Option<f64>,
    pub custom: BTreeMap<String, f64>,
}

impl Declared {
    /// What is wrong with it, by the names of the command line.
    ///
    /// # Errors
    /// A number that cannot be meant, or a name that has an option of its own.
    pub fn check(&self) -> Result<(), String> {
        let number = |name: &str, stated: f64| {
            let refusal = || format!("{name} must be a number from 0 to {MOST:e}, got {stated}");
            let is_fine = (0.0..=MOST).contains(&stated);
            is_fine.then_some(()).ok_or_else(refusal)
        };
        for (name, stated) in [("--num-cpus", self.num_cpus), ("--memory", self.memory)] {
            number(name, stated.unwrap_or_default())?;
        }
        if let Some(count) = self.num_gpus.filter(|count| *count > MOST_GPUS) {
            return Err(format!(
                "--num-gpus must be at most {MOST_GPUS}, got {count}"
            ));
        }
        for (name, stated) in &self.custom {
            if let Some((_, option)) = OWN_NAMES.iter().find(|(own, _)| own == name) {
                return Err(format!("--resources cannot hold {name:?}: use --{option}"));
            }
            if name.is_empty() {
                return Err("--resources has a name that is empty".to_owned());
            }
            number(&format!("--resources {name:?}"), *stated)?;
        }
        Ok(())
    }
}

/// What there is.
///
/// # Errors
/// More is declared than this node may give out.
pub fn of_machine(declared: &Declared) -> Result<NodeResources, String> {
    let visible = env::var(VISIBLE).ok();
    let found = if declared.num_gpus == Some(0) {
        Vec::new()
    } else {
        nvidia::devices()
    };
    let devices = devices(declared.num_gpus, visible.as_deref(), found)?;
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut amounts = declared.custom.clone();
    amounts.insert(
        "num_cpus".to_owned(),
        declared.num_cpus.unwrap_or(cpus as f64),
    );
    let memory = memory::of_machine().map_or(MOST, |bytes| bytes as f64);
    amounts.insert("memory".to_owned(), declared.memory.unwrap_or(memory));
    let counted = |(name, amount): (String, f64)| (name, (amount * UNIT as f64).round() as u64);
    Ok(NodeResources {
        amounts: amounts.into_iter().map(counted).collect(),
        devices,
    })
}

/// The GPUs that this node gives out.
fn devices(
    declared: Option<u32>,
    visible: Option<&str>,
    found: Vec<Device>,
) -> Result<Vec<Device>, String> {
    let found_count = found.len();
    let pool = match visible {
        Some(names) => named(names, &found)?,
        None => found,
    };
    let Some(count) = declared.map(|count| count as usize) else {
        // Without a driver the variable is left over from elsewhere.
        return Ok(if found_count == 0 { Vec::new() } else { pool });
    };
    if found_count == 0 && visible.is_none() {
        let number = |number: usize| Device {
            id: number.to_string(),
            model: String::new(),
        };
        return Ok((0..count).map(number).collect());
    }
    if count > pool.len() {
        let source = match visible {
            Some(names) => format!("{VISIBLE} is {names:?}"),
            None => "the driver has no more".to_owned(),
        };
        return Err(format!(
            "--num-gpus is {count}, but there are {} GPUs to give out ({source}); declare no more than there are, or leave it \
             out",
            pool.len()
        ));
    }
    Ok(pool.into_iter().take(count).collect())
}

/// The devices that `CUDA_VISIBLE_DEVICES` names, by these names: a number means what it means to CUDA. As there, the first
/// that is negative ends the list.
fn named(names: &str, found: &[Device]) -> Result<Vec<Device>, String> {
    let mut devices: Vec<Device> = Vec::new();
    for name in names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        if name.starts_with('-') || name == "NoDevFiles" {
            break;
        }
        let number = name.parse::<usize>().ok();
        let model = match number {
            Some(number) if !found.is_empty() => match found.get(number) {
                Some(device) => device.model.clone(),
                None => {
                    return Err(format!(
                        "{VISIBLE} names GPU {number}, which does not exist: there are {}, from 0 on",
                        found.len()
                    ));
                }
            },
            Some(_) => String::new(),
            None => found
                .iter()
                .find(|device| device.id.starts_with(name))
                .map_or_else(String::new, |device| device.model.clone()),
        };
        if devices.iter().any(|device| device.id == name) {
            return Err(format!("{VISIBLE} names GPU {name} twice"));
        }
        devices.push(Device {
            id: name.to_owned(),
            model,
        });
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(count: usize) -> Vec<Device> {
        let device = |number| Device {
            id: format!("GPU-{number}abc"),
            model: "H200".to_owned(),
        };
        (0..count).map(device).collect()
    }

    fn ids(devices: Result<Vec<Device>, String>) -> String {
        let devices = devices.unwrap_or_else(|refusal| panic!("{refusal}"));
        let ids: Vec<String> = devices.into_iter().map(|device| device.id).collect();
        ids.join(" ")
    }

    #[test]
    fn gpus_are_those_that_are_found_unless_somebody_says_otherwise() {
        assert_eq!(ids(devices(None, None, found(2))), "GPU-0abc GPU-1abc");
        assert_eq!(ids(devices(Some(1), None, found(2))), "GPU-0abc");
        assert_eq!(ids(devices(Some(0), None, found(2))), "");
        assert_eq!(ids(devices(None, None, found(0))), "");
        assert_eq!(ids(devices(Some(3), None, found(0))), "0 1 2");
    }

    #[test]
    fn what_is_visible_is_given_out_by_the_names_that_it_has_there() {
        assert_eq!(ids(devices(None, Some("1"), found(2))), "1");
        assert_eq!(ids(devices(None, Some("GPU-1a, 0"), found(2))), "GPU-1a 0");
        assert_eq!(ids(devices(Some(1), Some("3,5"), found(0))), "3");
        assert_eq!(ids(devices(None, Some("3,5"), found(0))), "");
        assert_eq!(ids(devices(None, Some("0,-1,1"), found(2))), "0");
        assert_eq!(ids(devices(None, Some(""), found(2))), "");
    }

    #[test]
    fn a_gpu_that_does_not_exist_is_refused() {
        for (declared, visible, there, named) in [
            (Some(3), None, 2, "--num-gpus is 3"),
            (Some(2), Some("0"), 2, "--num-gpus is 2"),
            (Some(1), Some(""), 0, "--num-gpus is 1"),
            (None, Some("7"), 2, "GPU 7"),
            (None, Some("0,0"), 2, "twice"),
        ] {
            let refusal = devices(declared, visible, found(there)).unwrap_err();
            assert!(refusal.contains(named), "{refusal}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_meant_are_refused() {
        let mut declared = Declared::default();
        assert_eq!(declared.check(), Ok(()));
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            declared.num_cpus = Some(wrong);
            assert!(declared.check().unwrap_err().contains("--num-cpus"));
        }
        declared.num_cpus = None;
        declared.custom = [("GPU".to_owned(), 1.0)].into();
        assert!(declared.check().unwrap_err().contains("--num-gpus"));
        declared.custom = [("x".to_owned(), -1.0)].into();
        assert!(declared.check().unwrap_err().contains("\"x\""));
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let declared = Declared {
            num_gpus: Some(0),
            custom: [("lidar".to_owned(), 0.5)].into(),
            ..Declared::default()
        };
        let has = of_machine(&declared).unwrap();
        assert!(has.amounts.get("num_cpus") >= Some(&UNIT), "{has:?}");
        assert!(has.amounts.get("memory") > Some(&UNIT), "{has:?}");
        assert_eq!(has.amounts.get("lidar"), Some(&(UNIT / 2)));
        assert_eq!(has.devices, []);
    }
}

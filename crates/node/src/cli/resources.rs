//! What the machine has for replicas, as `start` and the nodes of scripts are told.

use std::collections::BTreeMap;

use clap::Args;
use eagleray_supervisor::{environment::set, resources::Declared};

use crate::settings::{MEMORY, NUM_CPUS, NUM_GPUS, RESOURCES};

#[derive(Debug, Args)]
pub(super) struct ResourceArguments {
    /// CPUs that replicas may reserve; nothing keeps a replica from using more [default: those that the node may run on, or
    /// `EAGLERAY_NUM_CPUS`].
    #[arg(long, value_name = "N")]
    num_cpus: Option<f64>,
    /// GPUs that replicas may have; 0: none is given out, and replicas see what the node sees [default: NVIDIA's that are
    /// found, or `EAGLERAY_NUM_GPUS`].
    #[arg(long, value_name = "N")]
    num_gpus: Option<u32>,
    /// Bytes of memory that replicas may reserve [default: those of the machine or its container, or `EAGLERAY_MEMORY`].
    #[arg(long, value_name = "BYTES")]
    memory: Option<f64>,
    /// Custom resources, as JSON such as '{"lidar": 1}' [default: none, or `EAGLERAY_RESOURCES`].
    #[arg(long, value_name = "JSON")]
    resources: Option<String>,
}

impl ResourceArguments {
    /// From arguments, and variables where there are none.
    pub(super) fn declared(&self) -> Result<Declared, String> {
        let custom = match self.resources.clone().or_else(|| set(RESOURCES)) {
            None => BTreeMap::new(),
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                format!("--resources is not JSON such as '{{\"lidar\": 1}}': {error}")
            })?,
        };
        let declared = Declared {
            num_cpus: or_variable(self.num_cpus, NUM_CPUS)?,
            num_gpus: or_variable(self.num_gpus, NUM_GPUS)?,
            memory: or_variable(self.memory, MEMORY)?,
            custom,
        };
        declared.check()?;
        Ok(declared)
    }
}

fn or_variable<T: std::str::FromStr>(
    given: Option<T>,
    variable: &str,
) -> Result<Option<T>, String> {
    match (given, set(variable)) {
        (Some(given), _) => Ok(Some(given)),
        (None, None) => Ok(None),
        (None, Some(text)) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!(
                "{variable} is {text:?}, which is not such a number"
            )),
        },
    }
}

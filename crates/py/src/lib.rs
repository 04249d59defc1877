//! The Python module `eagleray._core`: converts between Python and the Rust crates, nothing else.

mod client;
mod config;
mod json;
mod metrics;
mod options;
mod plain_json;
mod region;
mod replica;
mod same_items;
mod timer;

#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::client::{Call, Client, Completions, OutputWatch, Router};
    #[pymodule_export]
    use crate::config::{merge_config, read_config};
    #[pymodule_export]
    use crate::json::parse_json;
    #[pymodule_export]
    use crate::metrics::{MetricFamily, MetricSeries, Sheet, metric_names};
    #[pymodule_export]
    use crate::options::deployment_options;
    #[pymodule_export]
    use crate::plain_json::plain_json;
    #[pymodule_export]
    use crate::region::Region;
    #[pymodule_export]
    use crate::replica::{
        Replica, Request, begin_anew, in_forked_child, read_command, rename_process,
    };
    #[pymodule_export]
    use crate::same_items::same_items;
    #[pymodule_export]
    use crate::timer::Timer;
}

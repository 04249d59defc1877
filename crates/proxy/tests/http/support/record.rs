//! What tests of scenarios counted, as `tests/scenarios/record.py` notes it: the lines of `docs/reliability.md`.

use std::path::{Path, PathBuf};

/// The folder that is not checked in.
pub(crate) fn build() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build")
}

/// Notes the counts of a scenario, after its assertions have held. No text here has a quotation mark in it.
pub(crate) fn scenario(number: u32, what: &str, counted: &[(&str, usize)]) {
    scenario_of(number, "rust", what, counted);
}

/// The same for one of several tests of a scenario, which is called `name`.
pub(crate) fn scenario_of(number: u32, name: &str, what: &str, counted: &[(&str, usize)]) {
    if crate::OVER_TLS {
        // Noted by the run over plain sockets.
        return;
    }
    let folder = std::env::var_os("EAGLERAY_SCENARIO_RESULTS")
        .map_or_else(|| build().join("scenarios"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let counted: Vec<_> = counted
        .iter()
        .map(|(name, count)| format!("\"{name}\": {count}"))
        .collect();
    let text = format!(
        "{{\"counted\": {{{}}}, \"scenario\": {number}, \"what\": \"{what}\"}}\n",
        counted.join(", ")
    );
    std::fs::write(folder.join(format!("{number}-{name}.json")), text).unwrap();
}

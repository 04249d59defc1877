//! An apply that is built to be compared with what there is, before anything of it is done.

use std::collections::BTreeMap;

use eagleray_types::control::{Applied, Built};

use super::{
    declared::{Declared, Step},
    revision::Revision,
};

#[derive(Clone, Debug)]
pub struct Planning {
    /// It shall be carried out if it is this plan; empty: it shall only be shown.
    pub(crate) expected: String,
    /// What it declares, and what its client is told then.
    pub(crate) step: Step,
    pub(crate) applied: Applied,
    /// What must be built, under the numbers of these builds.
    pub(crate) applications: Vec<Declared>,
    /// By application: how its build has ended.
    pub(crate) built: BTreeMap<String, Built>,
}

impl Planning {
    /// Names of the files that it needs.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let specs = self.built.values().filter_map(|built| built.spec.as_ref());
        specs.flat_map(Revision::files_of)
    }
}

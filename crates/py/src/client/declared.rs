//! What is declared, and builds of it, as Python dicts and back: names are those of the fields.

use std::collections::BTreeMap;

use eagleray_types::control::{Applied, Apply, BuildPlace, Built, DeclaredApplication, Failure};
use pyo3::{prelude::*, types::PyDict};

use super::convert;
use crate::options::field;

pub(super) fn apply(dict: &Bound<'_, PyDict>) -> PyResult<Apply> {
    let applications: Vec<Bound<'_, PyDict>> = field(dict, "applications")?;
    let declared = |one: &Bound<'_, PyDict>| {
        Ok(DeclaredApplication {
            name: field(one, "name")?,
            config: field(one, "config")?,
        })
    };
    Ok(Apply {
        applications: applications.iter().map(declared).collect::<PyResult<_>>()?,
        node_options: field(dict, "node_options")?,
        place: place(&field(dict, "place")?)?,
        author: field(dict, "author")?,
        message: field(dict, "message")?,
        rebuild: field(dict, "rebuild")?,
        plan: field(dict, "plan")?,
        whole: field(dict, "whole")?,
    })
}

fn place(dict: &Bound<'_, PyDict>) -> PyResult<BuildPlace> {
    Ok(BuildPlace {
        app_directory: field(dict, "app_directory")?,
        python_path: field(dict, "python_path")?,
        python: field(dict, "python")?,
        environment: field::<BTreeMap<_, _>>(dict, "environment")?,
    })
}

pub(super) fn applied<'py>(py: Python<'py>, message: &Applied) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("deploy", message.deploy)?;
    dict.set_item("building", &message.building)?;
    dict.set_item("deleted", &message.deleted)?;
    dict.set_item("warnings", &message.warnings)?;
    Ok(dict)
}

/// `spec` or `failure` is there, the other None.
pub(super) fn built(dict: &Bound<'_, PyDict>) -> PyResult<Built> {
    let spec: Option<Bound<'_, PyDict>> = field(dict, "spec")?;
    let failure: Option<Bound<'_, PyDict>> = field(dict, "failure")?;
    let spec = spec.as_ref().map(convert::application_spec);
    let failure = failure.as_ref().map(|one| {
        Ok::<_, PyErr>(Failure {
            code: field(one, "code")?,
            message: field(one, "message")?,
            place: field(one, "place")?,
            help: field(one, "help")?,
        })
    });
    Ok(Built {
        build: field(dict, "build")?,
        spec: spec.transpose()?,
        failure: failure.transpose()?,
        skipped: field(dict, "skipped")?,
        warnings: field(dict, "warnings")?,
        took_milliseconds: field(dict, "took_milliseconds")?,
    })
}

//! Options of deployments as Python dicts and back, by their table: names are those of the fields.

use eagleray_types::{
    control::DeploymentOptions,
    options::{DeploymentOption, Scope, Takes, Value},
};
use pyo3::{
    exceptions::{PyKeyError, PyValueError},
    prelude::*,
    types::PyDict,
};

/// What `dict` has under `name`.
pub(crate) fn field<'py, T>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
    for<'a> <T as FromPyObject<'a, 'py>>::Error: Into<PyErr>,
{
    let value = dict
        .get_item(name)?
        .ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
    value.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        PyValueError::new_err(format!("{name}: {error}"))
    })
}

pub(crate) fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<DeploymentOptions> {
    let mut options = DeploymentOptions::default();
    for option in DeploymentOption::ALL {
        let name = option.key;
        let value = match option.of(&options) {
            Value::Whole(_) => Value::Whole(field(dict, name)?),
            Value::Number(_) => Value::Number(field(dict, name)?),
            Value::Flag(_) => Value::Flag(field(dict, name)?),
            Value::Text(_) => Value::Text(field(dict, name)?),
            Value::Numbers(_) => Value::Numbers(field(dict, name)?),
            Value::Texts(_) => Value::Texts(field(dict, name)?),
        };
        option
            .give(&mut options, value)
            .map_err(PyValueError::new_err)?;
    }
    Ok(options)
}

/// Those that a replica may obey. It is not shown others, of whose changes it would not hear.
pub(crate) fn of_replica<'py>(
    py: Python<'py>,
    options: &DeploymentOptions,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for option in DeploymentOption::ALL {
        if option.scope >= Scope::Replica {
            put(&dict, option.key, option.of(options))?;
        }
    }
    Ok(dict)
}

/// The table of options: dicts with `key`, `scope`, `default`, `minimum` and `maximum` (None where it has no such
/// bound) and `help`.
#[pyfunction]
pub(crate) fn deployment_options(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let standard = DeploymentOptions::standard();
    let row = |option: &DeploymentOption| {
        let (minimum, maximum) = match option.takes {
            Takes::Anything | Takes::OneOf(_) => (None, None),
            Takes::Within(least, most) => (Some(least), Some(most)),
            Takes::MoreThanZero(most) => (Some(f64::MIN_POSITIVE), Some(most)),
        };
        let dict = PyDict::new(py);
        dict.set_item("key", option.key)?;
        dict.set_item("scope", option.scope.word())?;
        put(&dict, "default", option.of(&standard))?;
        dict.set_item("minimum", minimum)?;
        dict.set_item("maximum", maximum.filter(|most| most.is_finite()))?;
        dict.set_item("help", option.help)?;
        Ok(dict)
    };
    DeploymentOption::ALL.iter().map(row).collect()
}

fn put(dict: &Bound<'_, PyDict>, name: &str, value: Value) -> PyResult<()> {
    match value {
        Value::Whole(number) => dict.set_item(name, number),
        Value::Number(number) => dict.set_item(name, number),
        Value::Flag(flag) => dict.set_item(name, flag),
        Value::Text(text) => dict.set_item(name, text),
        Value::Numbers(map) => dict.set_item(name, map),
        Value::Texts(map) => dict.set_item(name, map),
    }
}

//! JSON bodies as Python objects, several times as fast as the standard library reads them.
//!
//! A value that comes from here is the one that `json.loads` gives. What the parser refuses (invalid text, but also lone
//! surrogates, UTF-16 or deep nesting, which `json.loads` takes) is left to `json.loads`, and so are the words of errors.

use jiter::{FloatMode, PartialMode, PythonParse, StringCacheMode, map_json_error};
use pyo3::prelude::*;

const PARSE: PythonParse = PythonParse {
    allow_inf_nan: true,
    // Names repeat from request to request, values hardly; the cache is of bounded size.
    cache_mode: StringCacheMode::Keys,
    partial_mode: PartialMode::Off,
    catch_duplicate_keys: false,
    float_mode: FloatMode::Float,
};

/// Parses JSON in UTF-8. Raises `ValueError` for what it does not take.
#[pyfunction]
#[pyo3(signature = (data, /))]
pub(crate) fn parse_json<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    PARSE
        .python_parse(py, data)
        .map_err(|error| map_json_error(data, &error))
}

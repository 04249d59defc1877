//! Whether a list still holds what it held: the very objects, whatever they say of being equal.

use pyo3::{
    prelude::*,
    types::{PyList, PyTuple},
};

/// True: `list` has the objects of `items`, in that order, and no others.
#[pyfunction]
#[pyo3(signature = (list, items, /))]
pub(crate) fn same_items(list: &Bound<'_, PyList>, items: &Bound<'_, PyTuple>) -> bool {
    list.len() == items.len()
        && list
            .iter()
            .zip(items.iter_borrowed())
            .all(|(one, other)| one.is(other))
}

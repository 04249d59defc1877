//! Plain data as the JSON that Starlette's `JSONResponse` makes of it.
//!
//! Only objects of exactly the built-in types, since anything else may have its own idea of how it is encoded. For what is
//! not taken the answer is None, and the caller goes the long way; no Python code has run until then.

use std::cell::RefCell;

use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};

/// Nesting above this is left to the interpreter, which has its own limit and its own error.
const DEPTH: usize = 64;
/// `FastAPI` leaves out what is under names that begin so.
const HIDDEN: &str = "_sa";

/// Compact JSON in UTF-8; None: it is no plain data.
#[pyfunction]
#[pyo3(signature = (value, /))]
pub(crate) fn plain_json<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out, 0)?;
    Some(PyBytes::new(value.py(), &out))
}

fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > DEPTH {
        return None;
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        write_text(text.to_str().ok()?, out);
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        write_int(number, out)?;
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        if !number.value().is_finite() {
            return None;
        }
        // The interpreter's own digits.
        out.extend_from_slice(number.repr().ok()?.to_str().ok()?.as_bytes());
    } else if value.is_none() {
        out.extend_from_slice(b"null");
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        out.extend_from_slice(if flag.is_true() { b"true" } else { b"false" });
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        write_dict(dict, out, depth)?;
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        write_items(list.iter(), out, depth)?;
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        write_items(tuple.iter(), out, depth)?;
    } else {
        return None;
    }
    Some(())
}

fn write_int(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Option<()> {
    if let Ok(small) = number.extract::<i64>() {
        out.extend_from_slice(small.to_string().as_bytes());
    } else {
        out.extend_from_slice(number.repr().ok()?.to_str().ok()?.as_bytes());
    }
    Some(())
}

fn write_dict(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    out.push(b'{');
    // Locked, since another thread may change it where there is no lock on the whole interpreter.
    let state = RefCell::new((&mut *out, true));
    dict.locked_for_each(|key, value| {
        let (out, is_first) = &mut *state.borrow_mut();
        let written = write_entry(&key, &value, out, depth, *is_first);
        *is_first = false;
        written.ok_or_else(|| PyValueError::new_err("not plain"))
    })
    .ok()?;
    out.push(b'}');
    Some(())
}

fn write_entry(
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    depth: usize,
    is_first: bool,
) -> Option<()> {
    let name = key.cast_exact::<PyString>().ok()?.to_str().ok()?;
    if name.starts_with(HIDDEN) {
        return None;
    }
    if !is_first {
        out.push(b',');
    }
    write_text(name, out);
    out.push(b':');
    write(value, out, depth + 1)
}

fn write_items<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Option<()> {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(&item, out, depth + 1)?;
    }
    out.push(b']');
    Some(())
}

/// As the standard library writes text that need not be ASCII.
fn write_text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut copied = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
        copied = at + 1;
        if short == 0 {
            let digit = HEX.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), digit]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    out.push(b'"');
}

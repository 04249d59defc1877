//! The `date` of answers: printed once a second.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

#[derive(Debug)]
pub(super) struct Date(RefCell<(u64, HeaderValue)>);

impl Date {
    pub(super) fn new() -> Self {
        Self(RefCell::new((u64::MAX, HeaderValue::from_static(""))))
    }

    pub(super) fn now(&self) -> HeaderValue {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut printed = self.0.borrow_mut();
        if printed.0 != second
            && let Ok(value) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
        {
            *printed = (second, value);
        }
        printed.1.clone()
    }
}

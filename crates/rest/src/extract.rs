//! What handlers take out of a request. What cannot be taken is refused with our own error object.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;

use crate::errors::Refusal;

/// The whole body, within the bound of the router.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        // Not waited for, if it is known before.
        if length.is_some_and(|length| length > crate::MOST_BODY_BYTES as u64) {
            return Err(too_long());
        }
        let read = Bytes::from_request(request, state).await;
        read.map(Self).map_err(|rejection| {
            if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
                too_long()
            } else {
                Refusal::invalid("the body of the request broke off")
            }
        })
    }
}

fn too_long() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_long",
        format!("the body is longer than {} bytes", crate::MOST_BODY_BYTES),
        "",
    )
}

/// The body as JSON of this form, whatever content type it states.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Body(bytes) = Body::from_request(request, state).await?;
        // None is as good as an empty object, where nothing is required.
        let bytes = if bytes.is_empty() {
            &b"{}"[..]
        } else {
            &bytes[..]
        };
        serde_json::from_slice(bytes).map(Self).map_err(|error| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "body_invalid",
                format!("the body is not what is expected: {error}"),
                "GET /api/v1/openapi.json says what is",
            )
        })
    }
}

/// The parameters after `?`.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(found)| Self(found)).map_err(|rejection| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "query_invalid",
                rejection.body_text(),
                "GET /api/v1/openapi.json lists the parameters",
            )
        })
    }
}

/// The variable parts of the path, decoded.
pub(crate) struct Names<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Names<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = Path::<T>::from_request_parts(parts, state).await;
        // A name that is not UTF-8 is the name of nothing.
        read.map(|Path(found)| Self(found))
            .map_err(|rejection| Refusal::invalid(rejection.body_text()))
    }
}

/// Accepted, and under way.
pub(crate) fn accepted(body: impl serde::Serialize) -> Response {
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}

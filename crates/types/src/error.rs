//! The closed table of ways in which a request can fail.
//!
//! One table, so that HTTP and gRPC answers cannot drift apart. The words of the answer are chosen where it is
//! written (`eagleray_proxy::answer`), the numbers only here.

/// Why a request got no answer from user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The client sent something that breaks the protocol or a limit without its own status.
    BadRequest,
    /// No application owns the path.
    NotFound,
    /// The whole time limit of the request has passed.
    DeadlineExceeded,
    /// The client did not send its body in time.
    RequestTimeout,
    /// The time limit passed while no replica was there to take the request. It may be sent again.
    NoReplica,
    /// The body is larger than the route takes.
    PayloadTooLarge,
    /// The caller went away before the answer.
    Cancelled,
    /// User code raised, or returned what cannot be encoded.
    UserCode,
    /// A fault of Eagleray itself.
    Internal,
    /// The replica died after user code had started, and the request may not be repeated.
    ReplicaDied,
    /// The deployment's queue is full.
    BackPressure,
    /// The process holds as much memory for requests as it may.
    Overloaded,
    /// The deployment failed to deploy or is gone, so waiting would not help.
    Unavailable,
    /// The process is shutting down.
    Draining,
}

impl ErrorCode {
    /// HTTP status of the answer. `Cancelled` is 499, which nobody receives: it is what logs and counters show.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::DeadlineExceeded | Self::RequestTimeout => 408,
            Self::PayloadTooLarge => 413,
            Self::Cancelled => 499,
            Self::UserCode | Self::Internal => 500,
            Self::ReplicaDied => 502,
            Self::BackPressure
            | Self::Overloaded
            | Self::NoReplica
            | Self::Unavailable
            | Self::Draining => 503,
        }
    }

    /// gRPC status code, as numbered by <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
    pub const fn grpc_code(self) -> u8 {
        match self {
            Self::Cancelled => 1,
            Self::BadRequest => 3,
            Self::DeadlineExceeded | Self::RequestTimeout => 4,
            Self::NotFound => 5,
            Self::PayloadTooLarge | Self::BackPressure | Self::Overloaded => 8,
            Self::UserCode | Self::Internal => 13,
            Self::NoReplica | Self::ReplicaDied | Self::Unavailable | Self::Draining => 14,
        }
    }

    /// Whether the same request, sent again by the client, may succeed without having run twice.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::RequestTimeout
                | Self::BackPressure
                | Self::Overloaded
                | Self::NoReplica
                | Self::Unavailable
                | Self::Draining
        )
    }
}

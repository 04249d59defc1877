//! How Eagleray's processes talk: frames over unix sockets, and the claim page that both ends of a data
//! connection map. Big values go through shared memory beside them: [`region`].
//!
//! `docs/protocol.md` is the specification; this crate is its only implementation. The codec does no I/O. Lengths
//! are bounded before anything is allocated, and no input makes it panic.

mod claim;
pub mod fork;
mod frame;
mod head;
mod long;
mod model;
mod page;
pub mod region;
mod route;
mod session;
mod socket;

pub mod fuzz;

pub use claim::{Claims, SlotState};
pub use frame::{
    DecodeError, Decoder, FIRST_SKIPPABLE_KIND, Flags, Frame, HEADER_BYTES, Header, Kind,
    MAX_CONTROL_PAYLOAD, MAX_DATA_PAYLOAD, MESSAGE_COST, NO_DEADLINE, PROTOCOL_VERSION,
};
pub use head::{
    Attachments, CallHead, HeadError, Headers, HttpHead, MAX_HEAD_BYTES, RequestHead, RequestKind,
    ResponseHead, ResponsePayload, encode_response_head, encode_trailers, percent_decoded,
};
pub use long::LongFrame;
pub use model::{MODEL_HEADER, ModelKey, is_model_header};
pub use page::ClaimPage;
pub use route::{LONGEST_ROUTE, MOST_ROUTES, decode_routes, encode_routes};
pub use session::{SESSION_HEADER, SessionKey, is_session_header};
pub use socket::{
    check_peer, peer_uid, recv_with_fd, recv_with_fds, send_with_fd, send_with_fds, widen,
};

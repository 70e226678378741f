//! The signed envelope of a Wafer call, and the request for a tunnel in it.

use wafergate::protocol::wafer::Envelope;
use wafergate::protocol::wafer::WsurlRequest;
use wafergate::protocol::wafer::error_answer;

/// Panics where a promise does not hold.
pub(crate) fn check(body: &[u8]) {
    match Envelope::parse(body) {
        Ok(envelope) => {
            let _ = envelope.wants_text();
        }
        Err(refusal) => assert!(error_answer(&refusal).is_ascii()),
    }
    if let Ok(data) = std::str::from_utf8(body) {
        match WsurlRequest::parse(data) {
            Ok(request) => drop(request.scheme()),
            Err(refusal) => assert!(error_answer(&refusal).is_ascii()),
        }
    }
}

//! Messages of connectors, and those that they get.

use bytes::Bytes;
use wafergate::protocol::connector::FromConnector;
use wafergate::protocol::connector::FromGateway;
use wafergate::protocol::connector::with_body;

/// Panics where a promise does not hold.
pub(crate) fn check(message: &[u8]) {
    let message = Bytes::copy_from_slice(message);
    match FromConnector::decode(message.clone()) {
        Ok((read, body)) => {
            assert!(message.ends_with(&body));
            let head = match &read {
                FromConnector::Hello(hello) => hello.head(),
                FromConnector::Answer(answer) => answer.head(),
                FromConnector::Failure(failure) => failure.head(),
                FromConnector::Drain(drain) => drain.head(),
                FromConnector::Call(call) => call.head(),
                FromConnector::Unknown => return,
            };
            assert_eq!(FromConnector::decode(with_body(head, &body).into()), Ok((read, body)));
        }
        Err(malformed) => assert!(malformed.to_string().is_ascii()),
    }
    if let Ok((read, body)) = FromGateway::decode(message) {
        let head = match &read {
            FromGateway::Welcome(welcome) => welcome.head(),
            FromGateway::Event(event) => event.head(),
            FromGateway::Cancel(cancel) => cancel.head(),
            FromGateway::Drain(drain) => drain.head(),
            FromGateway::Result(result) => result.head(),
            FromGateway::Notice(notice) => notice.head(),
            FromGateway::Unknown => return,
        };
        assert_eq!(FromGateway::decode(with_body(head, &body).into()), Ok((read, body)));
    }
}

//! Reading request bodies: bounded in size and time.

use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::body::Incoming;
use tokio::time::timeout;

/// How long a body may take altogether.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an oversized body is read and thrown away, so that its sender gets to read the answer.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no body.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BodyError {
    /// It is too long.
    #[error("the body is over {limit_bytes} bytes: send less at a time")]
    TooLarge {
        /// How long it may be.
        limit_bytes: usize,
    },
    /// It did not come in time.
    #[error("the body did not come within {} s", BODY_TIMEOUT.as_secs())]
    TooSlow,
    /// It broke off.
    #[error("the body broke off")]
    Broken,
}

/// Reads a body of at most `limit_bytes`.
pub(super) async fn read(mut body: Incoming, limit_bytes: usize) -> Result<Bytes, BodyError> {
    let is_too_large = body.size_hint().lower() > limit_bytes as u64;
    let result = if is_too_large {
        Err(BodyError::TooLarge { limit_bytes })
    } else {
        timeout(BODY_TIMEOUT, collect(&mut body, limit_bytes)).await.unwrap_or(Err(BodyError::TooSlow))
    };
    if matches!(result, Err(BodyError::TooLarge { .. })) {
        // How much of it comes does not matter.
        let _ = timeout(DRAIN_TIMEOUT, drain(&mut body)).await;
    }
    result
}

async fn collect(body: &mut Incoming, limit_bytes: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
            continue;
        };
        if first.len() + whole.len() + data.len() > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

async fn drain(body: &mut Incoming) {
    let mut drained = 0;
    while let Some(Ok(frame)) = body.frame().await {
        drained += frame.data_ref().map_or(0, Buf::remaining);
        if drained > DRAIN_BYTES {
            return;
        }
    }
}

//! Calls of the native API over the connection of a connector: a push needs neither a second connection nor a signature.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hyper::Request;
use tokio::sync::Semaphore;

use super::dialled::Dialled;
use crate::connector::Link;
use crate::http::native;
use crate::http::native::Caller;
use crate::protocol::connector::Call;
use crate::protocol::connector::CallResult;
use crate::protocol::native::Code;
use crate::protocol::native::Problem;

/// Calls in work at a time; until the result of one is written, the socket is not read.
const AT_A_TIME: usize = 64;

/// The calls of one connection.
pub(super) struct Calls<'a> {
    dialled: &'a Dialled,
    places: Arc<Semaphore>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(dialled: &'a Dialled) -> Self {
        Self { dialled, places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Begins a call, in the order in which calls come; waits while too many are in work. It goes on if the connection ends.
    pub(super) async fn begin(&self, link: &Arc<Link>, call: Call, body: Bytes) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
        let Dialled { gateway, budget, caller, client } = self.dialled;
        let (gateway, room, caller, client) = (Arc::clone(gateway), budget.of(client.address), caller.clone(), *client);
        let link = Arc::clone(link);
        let work = async move {
            let id = call.id.clone();
            let caller = Caller { connector: None, ..caller };
            let (status, answer) = match request(&call) {
                Ok(head) => native::call(gateway, room, head, body, caller, client).await,
                Err(problem) => native::refused_call(&gateway, &problem, "unknown", client, &caller.tenant),
            };
            link.answer_call(&CallResult { id, status: status.as_u16() }, answer, place).await;
        };
        let mut work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
        // A task of its own might begin after that of the next call.
        let begun = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        if begun.is_pending() {
            self.dialled.gateway.connectors.tasks.spawn(work);
        }
    }
}

/// The head of the request that the call stands for.
fn request(call: &Call) -> Result<hyper::http::request::Parts, Problem> {
    let builder = Request::builder().method(call.method.as_str()).uri(call.path.as_str());
    let builder = call.headers.iter().fold(builder, |builder, (name, value)| builder.header(name, value));
    let request = builder.body(()).map_err(|error| {
        Problem::new(Code::ParameterInvalid, format!("method, path or a header of the call is not valid: {error}"))
    })?;
    Ok(request.into_parts().0)
}

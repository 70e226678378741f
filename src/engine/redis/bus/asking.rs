//! Sends requests to other nodes, and repeats them while a node is silent: the request or its answer may be lost.

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;

use super::ANSWER_TIMEOUT;
use super::Bus;
use super::Flow;
use super::patience::Patience;
use super::patience::Step;
use crate::engine::EngineError;
use crate::engine::redis::message;
use crate::engine::redis::message::Kind;
use crate::fair_semaphore::FairPermit;
use crate::id::NodeId;

/// A request of one incarnation of this node.
struct Question {
    asker: NodeId,
    node: NodeId,
    number: u64,
}

impl Bus {
    /// Waits for the tenant's turn to send a request of so many bytes to `node`.
    ///
    /// # Errors
    ///
    /// If the turn comes too late for an answer.
    pub(in crate::engine::redis) async fn turn(
        &self,
        node: NodeId,
        flow: Flow,
        bytes: usize,
    ) -> Result<FairPermit<Flow>, EngineError> {
        timeout(ANSWER_TIMEOUT, self.turns.ask(node, flow, bytes)).await.map_err(|_| EngineError::Full)
    }

    /// Waits for the tenant's turn to write so many bytes to Redis.
    ///
    /// # Errors
    ///
    /// If that takes as long as a call may take.
    pub(in crate::engine::redis) async fn turn_to_write(
        &self,
        tenant: &str,
        bytes: usize,
    ) -> Result<FairPermit<Flow>, EngineError> {
        timeout(ANSWER_TIMEOUT, self.turns.write(tenant.into(), bytes)).await.map_err(|_| EngineError::Full)
    }

    /// Sends a request to `node` and waits for its answer; the first response releases `turn`. If the node
    /// `can_repeat` answers, a silent one is asked again, and executes the request at most once.
    pub(in crate::engine::redis) async fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        turn: FairPermit<Flow>,
        can_repeat: bool,
    ) -> Result<Bytes, EngineError> {
        self.ask_as(Kind::Request, node, request, Some(turn), can_repeat).await
    }

    /// Queries the used tokens of `node`.
    pub(in crate::engine::redis) async fn ask_known(&self, node: NodeId, request: Bytes) -> Result<Bytes, EngineError> {
        self.ask_as(Kind::Known, node, request, None, false).await
    }

    async fn ask_as(
        &self,
        kind: Kind,
        node: NodeId,
        request: Bytes,
        mut turn: Option<FairPermit<Flow>>,
        can_repeat: bool,
    ) -> Result<Bytes, EngineError> {
        let started = Instant::now();
        let number = message::request_number(self.way.time.now_ms(), self.next());
        let question = Question { asker: *self.me.borrow(), node, number };
        let (sender, mut reply) = watch::channel(None);
        self.waiting.insert(number, sender);
        let _forget = Forget(self, number);
        let mut may_have_come = match self.say(kind, &question, request.clone()).await {
            Ok(has_come) => has_come,
            // It may have come, and Redis is there again.
            Err(_) if can_repeat && self.way.sending.number().is_some() => true,
            Err(error) => return Err(error),
        };
        if !may_have_come && !can_repeat {
            return Err(EngineError::NotThere);
        }
        let mut patience = Patience::new(started, can_repeat);
        loop {
            match timeout_at(patience.until(), reply.changed()).await {
                Ok(Ok(())) => {
                    drop(turn.take());
                    if let Some(answer) = &*reply.borrow_and_update() {
                        return Ok(answer.clone());
                    }
                    patience.hears(Instant::now());
                    continue;
                }
                Ok(Err(_)) => return Err(EngineError::NoReply),
                Err(_) => {}
            }
            if started.elapsed() >= ANSWER_TIMEOUT {
                drop(turn.take());
            }
            let body = match patience.step(Instant::now()) {
                Step::GiveUp => return Err(EngineError::NoReply),
                Step::Look => continue,
                Step::Repeat => request.clone(),
                Step::RepeatNumber => Bytes::new(),
            };
            // Answers to an ended incarnation are dropped.
            if *self.me.borrow() != question.asker {
                return Err(EngineError::NoReply);
            }
            self.is_silent.notify_one();
            let repeated = self.say(Kind::Repeat, &question, body).await;
            may_have_come |= repeated.unwrap_or_default();
            if !may_have_come {
                return Err(if repeated.is_ok() { EngineError::NotThere } else { EngineError::NoReply });
            }
        }
    }

    /// Sends a question; false if no node can have received it.
    async fn say(&self, kind: Kind, question: &Question, body: Bytes) -> Result<bool, EngineError> {
        let Question { asker, node, number } = *question;
        match timeout(ANSWER_TIMEOUT, self.send_as(asker, kind, node, number, body)).await {
            // In a Cluster the count covers only one server.
            Ok(Ok(receivers)) => Ok(receivers > 0 || self.is_cluster),
            Ok(Err(_)) | Err(_) => Err(EngineError::NoReply),
        }
    }
}

/// Removes a pending request on drop.
struct Forget<'a>(&'a Bus, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting.remove(&self.1);
    }
}

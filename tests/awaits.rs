//! Every wait in handshakes, events and calls, and why it is harmless: its future may be dropped there when the client hangs up,
//! and this node may be suspended there for so long that it is declared dead.
//!
//! A new `.await` in these files fails this test until it is in the table, with the guard or mark in the source that protects it,
//! or a reason why none is needed.

use std::fs;
use std::path::Path;

use wafergate::marks::Mark;

use Why::Guard;
use Why::Marked;
use Why::Nothing;

/// Why a wait is harmless.
enum Why {
    /// This text in the same file, which undoes the effect or checks again.
    Guard(&'static str),
    /// A test stops the process after it, see `tests/process/marks.rs`.
    Marked(Mark),
    /// Nothing needs to be undone, and nothing is sent after it.
    Nothing(&'static str),
}

/// The files, with the expression before each of their `.await` in order.
const WAITS: &[(&str, &[(&str, Why)])] = &[
    (
        "src/http/connect.rs",
        &[("gateway.connect_urls.admit(", Nothing("an admission undoes itself when it is dropped"))],
    ),
    (
        "src/gateway/connect/admit.rs",
        &[
            ("self.unless_shut(pin!(self.check(ticket, origin)))", Nothing("nothing is claimed before")),
            ("self.unless_shut(pin!(self.claim(&ticket, &mut claimed)))", Guard("let mut claimed = Claimed {")),
            ("claimed.give_back()", Nothing("its release goes on without it")),
            ("self.open_ticket(ticket)", Nothing("nothing is claimed before")),
            ("self.confirm_session(&ticket)", Nothing("nothing is claimed before")),
            ("self.engine.claims.claim(", Guard("let mut claimed = Claimed {")),
            ("try_join(is_withdrawn, self.register(ticket))", Guard("let registration = Registration {")),
            ("sleep(left.min(ENGINE_RETRY))", Guard("let mut claimed = Claimed {")),
            ("sleep(ENGINE_RETRY)", Nothing("nothing is claimed before")),
            ("sessions.confirm(&id, &ticket.tenant)", Nothing("nothing is claimed before")),
            ("try_join_all(announcing)", Nothing("each place is a hold that goes when it is dropped")),
            (
                "self.engine.registry.register(",
                Guard("if incarnation == current { Ok(registration) } else { Err(EngineError::NotMember) }"),
            ),
        ],
    ),
    (
        "src/engine/redis/mod.rs",
        &[
            ("engine.bus.receive(", Nothing("a task of the engine's own, which ends with it")),
            ("self.link.call(command)", Nothing("see its callers")),
        ],
    ),
    (
        "src/engine/redis/claims.rs",
        &[
            ("self.is_remembered_elsewhere(once, None)", Guard("let mine = Provisional::new(")),
            ("self.claim_key(once, token, life)", Guard("let mine = Provisional::new(")),
            ("self.is_known_elsewhere(once, since)", Guard("let mine = Provisional::new(")),
            ("self.claim_key(once, token, life)", Guard("let mine = Provisional::new(")),
            ("self.is_known_elsewhere(once, None)", Guard("let mine = Provisional::new(")),
            ("self.claim_without_redis(once)", Guard("let mine = Provisional::new(")),
            ("self.claim_key(once, WITHDRAWAL, life)", Guard("let mine = Provisional::new(")),
            ("self.call(redis::cmd(\"GET\").arg(&key))", Nothing("it reads")),
            ("self.has_lost_beside(&key)", Nothing("it reads")),
            ("self.is_forgotten(SingleUse::Nonce(&name), self.issued_at(ticket_life))", Nothing("it reads")),
            ("sleep(LOOK_AGAIN_AFTER)", Nothing("it reads")),
            ("self.releases.next()", Nothing("it is in no client's call")),
            ("self.call::<i64>(&release.command(&self.keys))", Nothing("it is in no client's call")),
            ("join_all(tries)", Nothing("it is in no client's call")),
            ("self.wait_to_retry()", Nothing("it is in no client's call")),
        ],
    ),
    (
        "src/engine/redis/registry.rs",
        &[
            ("self.lease_guard.valid_for(incarnation)", Nothing("nothing is registered before")),
            ("self.call::<i64>(&command)", Guard("impl Drop for Added")),
            ("self.lease_guard.valid_for(incarnation)", Marked(Mark::Registered)),
        ],
    ),
    (
        "src/engine/redis/cluster.rs",
        &[
            ("self.living()", Nothing("it reads")),
            ("self.bus.turn(node, tenant.into(), request.len())", Nothing("a turn that is given up is the next one's")),
            ("self.lease_guard.valid()", Marked(Mark::Ask)),
            ("self.bus.ask(node, request, turn", Nothing("the bus forgets a request that was given up")),
            ("self.write_some()", Nothing("the node leaves")),
            ("self.until_index_is_written()", Nothing("the node leaves")),
            ("timeout(LAST_WRITES, written)", Nothing("the node leaves")),
            ("self.call::<i64>(&command)", Nothing("the node leaves")),
            ("self.living_with(&[])", Nothing("it reads")),
            ("self.call(&command)", Nothing("it reads")),
        ],
    ),
    ("src/webhook/backlog.rs", &[("timeout_at(deadline, flushed)", Nothing("it counts"))]),
    (
        "src/webhook/task.rs",
        &[
            ("sleep_until(at)", Guard("if !attempts.hooks.lease_guard.is_valid_for(event_queue.incarnation)")),
            ("attempts.hooks.lease_guard.valid_for(event_queue.incarnation)", Nothing("it is the question itself")),
            ("attempts.seat(&event_queue, is_late, deadline)", Marked(Mark::EventAdmitted)),
            ("post(&event_queue, is_late, deadline)", Marked(Mark::EventAdmitted)),
            ("attempts.attempt(&event_queue, carrier)", Nothing("the loop asks again")),
            ("sleep(AGAIN_AFTER)", Guard("if !attempts.hooks.lease_guard.is_valid_for(event_queue.incarnation)")),
            (
                "run(attempts, event_queue)",
                Guard("if !attempts.hooks.lease_guard.is_valid_for(event_queue.incarnation)"),
            ),
        ],
    ),
    (
        "src/webhook/attempt.rs",
        &[
            ("outgoing.post(", Marked(Mark::EventAnswered)),
            ("self.read(", Marked(Mark::EventAnswered)),
            ("self.hooks.lease_guard.valid_for(event_queue.incarnation)", Nothing("it is the question itself")),
            ("self.act(event_queue, event, actions, doubt)", Nothing("the lane's state is this node's own")),
            ("self.actions.acquire(", Nothing("room that is given up is the next one's")),
            ("self.turns.run_long(", Nothing("it only reads what was answered")),
            ("actor.act(event_queue, event.sequence, actions)", Nothing("each action asks before it is done")),
        ],
    ),
    (
        "src/webhook/resign.rs",
        &[
            ("self.send(way, &signed)", Nothing("the client, or the writer of a connector, asks the lease guard")),
            ("self.post_again(", Nothing("the client asks the lease guard before each request")),
            ("self.send(way, &signed)", Nothing("which key was taken is true whoever speaks for the tunnel")),
            ("self.send_to(seat, signed)", Nothing("see its callers")),
            ("client.post(", Nothing("see its callers")),
        ],
    ),
    (
        "src/webhook/turn.rs",
        &[
            ("timeout_at(deadline, called)", Marked(Mark::EventAdmitted)),
            ("timeout_at(deadline, endpoint.server_permits(flow, is_late))", Marked(Mark::EventAdmitted)),
            ("self.server_turn.lock()", Marked(Mark::EventAdmitted)),
            ("self.server.permits.acquire()", Marked(Mark::EventAdmitted)),
            ("self.server.flights.wait(", Marked(Mark::EventAdmitted)),
            ("sleep_until(at)", Nothing("it only calls those that wait")),
        ],
    ),
    (
        "src/http_client/client.rs",
        &[
            ("self.send(caller, &Method::POST, url, headers, body, limit)", Nothing("it is the call itself")),
            (
                "let received = match before(deadline, was_sent, pin!(self.attempt(caller, &outgoing, &progress)))",
                Nothing("nothing is sent behind it"),
            ),
            (
                "let end = match before(deadline, || true, pin!(received.body.read()))",
                Nothing("nothing is sent behind it"),
            ),
            ("pool.connect(tenant, outgoing.url)", Marked(Mark::EventConnected)),
            ("self.exchange(&pool, connection, caller, outgoing, progress)", Guard("self.may_speak(incarnation)?;")),
            ("connection.send(method, url, headers, body, progress, room)", Marked(Mark::EventWritten)),
            ("connection.send(method, url, headers, body, &progress.was_sent)", Marked(Mark::EventWritten)),
            ("exchange.read_body()", Nothing("nothing is sent behind it")),
            ("place.read_body(body, read, room)", Nothing("nothing is sent behind it")),
        ],
    ),
    (
        "src/http/native/mod.rs",
        &[
            ("tail(&gateway, room, request, client, view)", Nothing("it reads")),
            (
                "answer(&gateway, room, request, client, (call, connector), &mut tenant)",
                Nothing("what is behind it goes to its caller"),
            ),
            (
                "authenticated(gateway, room, request, client, &mut tenant, || Ok(()))",
                Nothing("nothing has changed before"),
            ),
            ("body::read(room, &head.headers, Full::new(body), MAX_BODY_BYTES)", Nothing("it is there already")),
            ("idempotency::here(", Nothing("its caller runs it to its end")),
            ("calls::run(", Nothing("it changes nothing")),
            (
                "authenticated(gateway, room, request, client, tenant, check_node)",
                Nothing("nothing has changed before"),
            ),
            ("idempotency::once(", Nothing("it is done in a task of its own")),
            ("calls::run(", Nothing("it changes nothing")),
            ("body::read(room, &head.headers, incoming, MAX_BODY_BYTES)", Nothing("nothing has changed before")),
            (
                "auth::authenticate(",
                Nothing("a signed request that was given up is signed anew: its nonce may be used up"),
            ),
        ],
    ),
    (
        "src/http/native/idempotency.rs",
        &[
            ("calls::run(", Nothing("without a key nobody is promised that it is done whole")),
            ("work", Guard("let work = tokio::spawn(keyed(")),
            ("keyed(", Nothing("its caller runs it to its end")),
            ("calls::run(", Nothing("its caller runs it to its end")),
            ("begin(", Guard("let work = tokio::spawn(keyed(")),
            ("gateway.read(", Nothing("nothing has changed before")),
            ("gateway.calls.begin(", Guard("let work = tokio::spawn(keyed(")),
            ("timeout(LONGEST_CALL, calls::run(", Guard("let work = tokio::spawn(keyed(")),
            ("first.end(kept)", Guard("let work = tokio::spawn(keyed(")),
        ],
    ),
    (
        "src/gateway/calls.rs",
        &[
            ("self.claims.claim_nonce(", Nothing("a signed request that was given up is signed anew")),
            ("self.store.begin(", Nothing("its caller runs it in a task of its own")),
            ("self.keep(answer.as_ref())", Guard("tokio::spawn(self.keep_later(answer))")),
            ("self.store.finish(", Nothing("it can be kept again")),
            ("self.store.abandon(", Nothing("it can be kept again")),
            ("self.keep(answer.as_ref())", Nothing("a task of its own")),
            ("sleep(KEEP_EVERY)", Nothing("a task of its own")),
            ("timeout(RUNNING_TTL, kept)", Nothing("a task of its own")),
        ],
    ),
    (
        "src/gateway/push/mod.rs",
        &[
            ("self.lease_guard.valid()", Nothing("nothing is pushed before")),
            ("self.batch.push(Arc::clone(&tenant), packets)", Marked(Mark::PushCollected)),
            ("self.push_elsewhere(", Marked(Mark::Ask)),
            ("self.router.decide(tenant, &commands, pending, 0)", Marked(Mark::Ask)),
        ],
    ),
    (
        "src/gateway/push/batch.rs",
        &[
            ("yield_now()", Guard("impl Drop for Leader")),
            ("is_done", Nothing("the batch runs without its callers")),
            ("batches.run(batch)", Nothing("a task of its own")),
            ("catch_unwind()", Nothing("each push is counted and answered for itself")),
            ("queued.write(&mut turns)", Nothing("it writes what is queued, behind a turn each")),
            ("turns.next()", Marked(Mark::PushTurn)),
            ("select(pin!(work), pin!(given_up))", Nothing("what is done is done, and the rest is given up")),
        ],
    ),
    (
        "src/gateway/push/native.rs",
        &[
            ("self.push_from(", Nothing("nothing is done behind it")),
            ("self.command_all(", Nothing("nothing is done behind it")),
            ("self.command_all(", Nothing("nothing is done behind it")),
            ("first", Nothing("a withdrawal that was given up can be repeated")),
            ("self.lease_guard.valid()", Nothing("nothing is closed before, and a withdrawn URL stays so")),
            ("self.router.decide(", Marked(Mark::Ask)),
            ("self.lease_guard.valid()", Nothing("nothing is pushed before")),
            ("self.command_tunnels(", Nothing("nothing is done behind it")),
            ("self.groups.command(", Nothing("nothing is done behind it")),
            ("self.groups.command(", Nothing("nothing is done behind it")),
            ("turns.next()", Marked(Mark::PushTurn)),
            ("self.router.decide(", Marked(Mark::Ask)),
        ],
    ),
    (
        "src/gateway/actions.rs",
        &[
            ("turns.end_turn()", Marked(Mark::Action)),
            ("turns.next()", Marked(Mark::Action)),
            ("lease_guard.valid_for(event_queue.incarnation)", Marked(Mark::Action)),
            ("self.groups.join_here(", Guard("if !lease_guard.valid_for(event_queue.incarnation).await {")),
            ("self.groups.set_user(", Guard("if !lease_guard.valid_for(event_queue.incarnation).await {")),
            ("self.pushes.close_native(", Guard("if !lease_guard.valid_for(event_queue.incarnation).await {")),
            ("self.pushes.push_from(", Guard("if !lease_guard.valid_for(event_queue.incarnation).await {")),
        ],
    ),
];

/// The expression before each `.await` of a file, up to its tests, on the same statement.
fn waits(source: &str) -> Vec<String> {
    let source: String = source.split("#[cfg(test)]").next().unwrap_or_default().lines().filter(is_code).collect();
    let source = source.replace(".awaits", "");
    let parts: Vec<&str> = source.split(".await").collect();
    parts[..parts.len() - 1].iter().map(|part| part.rsplit([';', '}']).next().unwrap_or_default().to_owned()).collect()
}

/// The text of all files below a directory.
fn all_sources(path: &Path) -> String {
    if !path.is_dir() {
        return fs::read_to_string(path).expect("readable");
    }
    fs::read_dir(path).expect("a directory").map(|entry| all_sources(&entry.expect("readable").path())).collect()
}

fn is_code(line: &&str) -> bool {
    !line.trim_start().starts_with("//")
}

#[test]
fn whoever_waits_says_what_makes_it_harmless() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let marked: String = ["src/webhook", "src/http_client", "src/gateway", "src/engine/redis"]
        .iter()
        .map(|path| all_sources(&root.join(path)))
        .collect();
    for (file, table) in WAITS {
        let source = fs::read_to_string(root.join(file)).expect("readable");
        let waits = waits(&source);
        for (turn, wait) in waits.iter().enumerate() {
            let expected = table.get(turn).map(|(text, _)| *text);
            assert!(
                expected.is_some_and(|text| wait.contains(text)),
                "{file} waits for `{}`, where tests/awaits.rs has {expected:?}: what if its future is dropped there, or the node is \
                 declared dead meanwhile?",
                wait.trim()
            );
        }
        assert_eq!(waits.len(), table.len(), "{file} no longer waits for the last of these");
        for (wait, why) in *table {
            match why {
                Guard(text) => assert!(source.contains(text), "{file}: `{wait}` is no longer guarded by `{text}`"),
                Marked(mark) => {
                    assert!(marked.contains(&format!("Mark::{mark:?}.pass()")), "{file}: nobody comes past {mark:?}");
                }
                Nothing(word) => assert!(!word.is_empty(), "{file}: why is `{wait}` harmless?"),
            }
        }
    }
}

#[test]
fn a_wait_is_found_wherever_it_stands() {
    let source = "a(x)\n    .await?;\n// not.await\nif b.await {} match c(d.await).await {}\n#[cfg(test)] e.await";

    let waits: Vec<String> = waits(source).iter().map(|wait| wait.trim().to_owned()).collect();

    assert_eq!(waits, ["a(x)", "if b", "match c(d", ")"]);
}

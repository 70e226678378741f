//! `DELETE /v1/tunnels/{id}`: closes an open tunnel, and lets one that was only asked for never open.

use serde_json::Value;
use serde_json::json;

use super::Scene;
use super::nodes::Nodes;
use crate::support::HttpAnswer;
use crate::support::Issued;
use crate::support::RawClient;
use crate::support::TestClient;
use crate::support::native::Native;
use crate::support::raw::handshake;
use crate::support::within;

/// Withdraws a tunnel, which must be granted; what the answer says.
async fn withdraw(native: &Native, tunnel: &str) -> String {
    said(&native.call(&format!("DELETE /v1/tunnels/{tunnel}"), &Value::Null).await)
}

fn said(answer: &HttpAnswer) -> String {
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
    answer.header("wafergate-outcome").expect("it says what happened").to_owned()
}

/// The status and code of a refused handshake.
async fn refused(issued: &Issued) -> (u16, String) {
    let mut client = RawClient::dial(issued.address()).await;
    client.write(handshake(issued).as_bytes()).await;
    let answer = client.answer().await;
    (answer.status, answer.json()["code"].as_str().expect("a code").to_owned())
}

#[tokio::test]
async fn an_open_tunnel_is_closed_and_one_that_was_only_asked_for_never_opens() {
    let scene = Scene::with(&[("tenants.2.id", "other"), ("tenants.2.keys", "a key of another tenant")]).await;
    let other = Native { tenant: "other".into(), key: "a key of another tenant".into(), ..scene.native.clone() };

    let mut client = scene.native.open(&Value::Null).await;
    assert_eq!(withdraw(&other, &client.tunnel).await, "not-open", "it is none of theirs");
    assert_eq!(withdraw(&scene.native, &client.tunnel).await, "closed");
    assert_eq!(client.close_code().await, 1000);
    let closed = scene.hooks.events(&client.tunnel, 2).await.remove(1);
    assert_eq!(closed["data"]["reason"], "pushed_close");
    assert_eq!(withdraw(&scene.native, &client.tunnel).await, "not-open");

    let issued = scene.native.issue(&Value::Null).await;
    for _ in 0..2 {
        assert_eq!(withdraw(&scene.native, &issued.tunnel).await, "not-open");
        assert_eq!(refused(&issued).await, (409, "tunnel_withdrawn".into()));
    }
    assert_eq!(withdraw(&scene.native, "nonsense").await, "not-open");

    let issued = scene.native.issue(&Value::Null).await;
    assert_eq!(withdraw(&other, &issued.tunnel).await, "not-open");
    TestClient::dial(&issued).await.expect("another tenant's withdrawal is none");
}

#[tokio::test]
async fn a_repeated_call_says_what_the_first_one_did() {
    let scene = Scene::new().await;
    let client = scene.native.open(&Value::Null).await;
    let line = format!("DELETE /v1/tunnels/{}", client.tunnel);
    for _ in 0..2 {
        assert_eq!(said(&scene.native.call_with(&line, "Idempotency-Key: one\r\n", "").await), "closed");
    }
}

#[tokio::test]
async fn a_withdrawal_counts_as_a_push() {
    let scene = Scene::with(&[("tenants.1.limits.pushes_per_sec", "1")]).await;
    let call = || scene.native.call("DELETE /v1/tunnels/t00000000000000000000000000000000", &Value::Null);
    let mut statuses = vec![];
    while statuses.len() < 50 && statuses.last() != Some(&429) {
        statuses.push(call().await.status);
    }
    assert_eq!((statuses[0], statuses.last()), (204, Some(&429)), "{statuses:?}");
}

#[tokio::test]
async fn it_holds_on_every_node_also_after_redis_has_lost_everything() {
    let nodes = Nodes::new(3).await;
    let issued = nodes.native(0).issue(&Value::Null).await;
    assert_eq!(withdraw(&nodes.native(1), &issued.tunnel).await, "not-open");
    for node in 0..3 {
        assert_eq!(refused(&nodes.cluster.moved(&issued, node)).await.1, "tunnel_withdrawn", "at {node}");
    }
    let mut client = nodes.open(0, 2, &Value::Null).await;
    assert_eq!(withdraw(&nodes.native(1), &client.tunnel).await, "closed");
    assert_eq!(client.close_code().await, 1000);

    let issued = nodes.native(0).issue(&Value::Null).await;
    assert_eq!(withdraw(&nodes.native(1), &issued.tunnel).await, "not-open");
    nodes.cluster.redis.command(&["FLUSHALL"]).await;
    for node in 0..3 {
        let moved = nodes.cluster.moved(&issued, node);
        let (status, code) = within("it is known again", refused(&moved)).await;
        assert!([(409, "tunnel_withdrawn"), (503, "engine_away")].contains(&(status, &*code)), "at {node}: {code}");
    }
}

/// Whichever is first: no tunnel stays open.
#[tokio::test]
async fn a_tunnel_that_opens_while_it_is_withdrawn_does_not_stay_open() {
    let nodes = Nodes::new(2).await;
    let (mut opened, mut refused) = (0, 0);
    for turn in 0..60 {
        let issued = nodes.native(0).issue(&json!({"user": "ann"})).await;
        let (native, moved) = (nodes.native(turn % 2), nodes.cluster.moved(&issued, turn / 2 % 2));
        let mut client = RawClient::dial(moved.address()).await;
        let dial = async {
            client.write(handshake(&moved).as_bytes()).await;
            client.answer().await
        };
        let withdrawal = async {
            // So that it meets the handshake at another place each time.
            for _ in 0..turn * 8 {
                tokio::task::yield_now().await;
            }
            withdraw(&native, &issued.tunnel).await
        };
        let (answer, outcome) = tokio::join!(dial, withdrawal);
        if answer.status == 101 {
            assert_eq!(client.close_code().await, 1000, "turn {turn}: {outcome}");
            opened += 1;
        } else {
            assert_eq!(answer.status, 409, "turn {turn}: {outcome}, {answer:?}");
            refused += 1;
        }
        assert_eq!(nodes.native(0).refused(&format!("GET /v1/tunnels/{}", issued.tunnel), &Value::Null).await.0, 404);
    }
    println!("{opened} opened and were closed, {refused} were refused");
    assert_eq!(nodes.native(1).ok("GET /v1/users/ann", &Value::Null).await["count"], 0);
}

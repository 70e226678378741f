//! `POST /ws/push`: which tunnels receive a push, and which ids are reported as invalid.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::BusinessServer;
use crate::support::TestClient;
use crate::support::Wafer;
use crate::support::World;

const GONE: &str = "t00000000000000000000000000000000";

#[tokio::test]
async fn a_push_reaches_its_client_whatever_the_shape_of_the_answer() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();

    for wafer in [world.wafer.clone(), world.wafer.with_encode()] {
        assert_eq!(wafer.push(&[&tunnel, GONE], "{\"type\":\"a\"}").await, [GONE]);
        client.expect("message:{\"type\":\"a\"}").await;
    }

    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn invalid_ids_come_back_verbatim_once_and_in_order() {
    let world = World::new().await;
    let client = world.connect().await;
    let upper = client.tunnel.to_uppercase();
    let padded = format!("{} ", client.tunnel);
    let ids = ["zz", GONE, &client.tunnel, "zz", "", &upper, "é/\"", GONE, &padded, "12345"];

    let invalid = world.wafer.push(&ids, "x").await;

    assert_eq!(invalid, ["zz", GONE, "", &upper, "é/\"", &padded, "12345"]);
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn ids_of_several_packets_are_one_list() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let packets = json!([
        {"tunnelIds": ["b", client.tunnel], "type": "message", "content": "1"},
        {"tunnelIds": ["a", "b", client.tunnel], "type": "message", "content": "2"},
        {"tunnelIds": [client.tunnel], "type": "message", "content": "3"},
    ]);

    assert_eq!(world.wafer.packets(packets).await, ["b", "a"]);

    for packet in ["message:1", "message:2", "message:3"] {
        client.expect(packet).await;
    }
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn packets_behind_a_close_find_the_tunnel_gone() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();
    let packets = json!([
        {"tunnelIds": [tunnel], "type": "message", "content": "last"},
        {"tunnelIds": [tunnel], "type": "close", "content": null},
        {"tunnelIds": [tunnel], "type": "message", "content": "late"},
    ]);

    assert_eq!(world.wafer.packets(packets).await, [tunnel.as_str()]);

    client.expect("message:last").await;
    client.expect("close").await;
    assert_eq!(client.close_code().await, 1000);
    world.finish().await;
}

#[tokio::test]
async fn a_live_id_given_twice_gets_the_message_once() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();

    assert!(world.wafer.push(&[&tunnel, &tunnel, &tunnel], "once").await.is_empty());

    client.expect("message:once").await;
    client.expect_quiet().await;
    assert!(world.wafer.close(&[&tunnel, &tunnel]).await.is_empty(), "it was open when it was closed");
    client.expect("close").await;
    assert_eq!(client.close_code().await, 1000);
    world.finish().await;
}

#[tokio::test]
async fn nothing_to_push_to_is_no_error() {
    let world = World::new().await;

    for wafer in [world.wafer.clone(), world.wafer.with_encode()] {
        assert!(wafer.push(&[], "x").await.is_empty());
        assert!(wafer.close(&[]).await.is_empty());
        assert!(wafer.packets(json!([])).await.is_empty());
        assert!(wafer.packets(json!([{"tunnelIds": {}, "type": "close"}])).await.is_empty());
    }

    world.finish().await;
}

#[tokio::test]
async fn php_may_send_ids_as_an_object_and_as_numbers() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let packets = json!([{
        "tunnelIds": {"0": client.tunnel, "2": 17, "5": "gone"},
        "type": "message",
        "content": "x",
    }]);
    let numbers = json!([{"tunnelIds": [4, 18_446_744_073_709_551_615_u64, "b"], "type": "close"}]);

    assert_eq!(world.wafer.packets(packets).await, ["17", "gone"]);
    assert_eq!(world.wafer.packets(numbers).await, ["4", "18446744073709551615", "b"]);

    client.expect("message:x").await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn a_tunnel_that_was_only_requested_is_invalid() {
    let world = World::new().await;
    let issued = world.issue().await;

    assert_eq!(world.wafer.push(&[&issued.tunnel], "x").await, [issued.tunnel.as_str()]);
    assert_eq!(world.wafer.close(&[&issued.tunnel]).await, [issued.tunnel.as_str()]);

    let mut client = TestClient::dial(&issued).await.expect("the URL is as good as before");
    assert_eq!(client.recv_packet().await, "timeout:30");
    client.expect_quiet().await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn another_tenants_tunnel_is_invalid_and_left_alone() {
    let settings = [("tenants.1.server_host", "127.0.0.2"), ("tenants.1.keys", "of the other tenant")];
    let world = World::with(&settings).await;
    let other_business = BusinessServer::at("127.0.0.2:0", &["of the other tenant"]).await;
    let other = Wafer::new(world.gateway.address, "127.0.0.2", "of the other tenant");
    let issued = other.issue(&other_business.url()).await;
    let mut theirs = TestClient::dial(&issued).await.expect("works");
    theirs.expect("timeout:30").await;
    let mut ours = world.connect().await;

    let both = [ours.tunnel.as_str(), theirs.tunnel.as_str()];
    assert_eq!(world.wafer.push(&both, "from us").await, [both[1]]);
    assert_eq!(other.push(&both, "from them").await, [both[0]]);
    assert_eq!(world.wafer.close(&[both[1]]).await, [both[1]]);

    ours.expect("message:from us").await;
    theirs.expect("message:from them").await;
    theirs.expect_quiet().await;
    drop((ours, theirs));
    world.finish().await;
    other_business.assert_sound();
}

#[tokio::test]
async fn ten_thousand_ids_are_decided_within_a_second() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let mut ids: Vec<String> = (0..9_999).map(|number| format!("t{number:032x}")).collect();
    let gone = ids.clone();
    ids.insert(5_000, client.tunnel.clone());
    let packets = json!([{"tunnelIds": ids, "type": "message", "content": "{\"type\":\"a\"}"}]);

    let start = Instant::now();
    let invalid = world.wafer.packets(packets).await;
    let took = start.elapsed();

    assert_eq!(invalid, gone);
    assert!(took < Duration::from_secs(1), "{took:?}");
    client.expect("message:{\"type\":\"a\"}").await;
    assert_eq!(world.gateway.metric("deliveries_total{result=\"accepted\"}").await, 1.0);
    assert_eq!(world.gateway.metric("deliveries_total{result=\"invalid\"}").await, 9_999.0);
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn pushes_one_after_another_arrive_in_that_order() {
    let world = World::new().await;
    let mut clients = [world.connect().await, world.connect().await];
    let ids = [clients[0].tunnel.clone(), clients[1].tunnel.clone()];

    for number in 0..200 {
        assert!(world.wafer.push(&[&ids[0], &ids[1]], &number.to_string()).await.is_empty());
    }

    for client in &mut clients {
        for number in 0..200 {
            client.expect(&format!("message:{number}")).await;
        }
    }
    drop(clients);
    world.finish().await;
}

#[tokio::test]
async fn a_closed_tunnel_is_invalid_from_the_answer_on() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let tunnel = client.tunnel.clone();

    assert!(world.wafer.close(&[&tunnel]).await.is_empty());
    assert_eq!(world.wafer.push(&[&tunnel], "late").await, [tunnel.as_str()]);
    assert_eq!(world.wafer.close(&[&tunnel]).await, [tunnel.as_str()], "harmless");

    client.expect("close").await;
    assert_eq!(client.close_code().await, 1000);
    world.business.story(&tunnel, &["connect", "close"]).await;
    world.finish().await;
}

#[tokio::test]
async fn half_a_surrogate_pair_is_replaced_and_nothing_else_is_touched() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let tunnel = &client.tunnel;
    let data = format!(r#"[{{"tunnelIds":["{tunnel}"],"type":"message","content":"a\ud800b\u4e2d\/\ud83d\ude00"}}]"#);

    let answer = world.wafer.call("/ws/push", &data).await;

    assert!(world.wafer.invalid(&answer).is_empty());
    client.expect("message:a\u{fffd}b中/😀").await;
    drop(client);
    world.finish().await;
}

#[tokio::test]
async fn half_a_surrogate_pair_in_an_id_is_one_invalid_id() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let tunnel = &client.tunnel;
    let data =
        format!(r#"[{{"tunnelIds":["x\udfff","{tunnel}"],"type":"message","content":"for those who are there"}}]"#);

    let answer = world.wafer.call("/ws/push", &data).await;

    assert_eq!(world.wafer.invalid(&answer), ["x\u{fffd}"]);
    client.expect("message:for those who are there").await;
    drop(client);
    world.finish().await;
}

//! Groups and users through the API, with members that come and go.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::Scene;

async fn listed(scene: &Scene, path: &str) -> BTreeSet<String> {
    let (mut found, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let answer = scene.native.call(&format!("GET {path}?limit=2{cursor}"), &Value::Null).await;
        if answer.status == 404 {
            return found;
        }
        let page = answer.json();
        let ids = page["tunnels"].as_array().expect("an array").iter().map(|id| id.as_str().expect("an id").to_owned());
        found.extend(ids);
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => {
                assert_eq!(page["count"], found.len());
                return found;
            }
        }
    }
}

#[tokio::test]
async fn members_come_and_go() {
    let scene = Scene::new().await;
    let mut clients = vec![];
    for number in 0..5 {
        let wish = json!({"user": format!("u{}", number % 2), "groups": ["房间/1"]});
        clients.push(scene.native.open(&wish).await);
    }
    let ids: Vec<String> = clients.iter().map(|client| client.tunnel.clone()).collect();
    let path = "/v1/groups/%E6%88%BF%E9%97%B4%2F1";

    assert_eq!(listed(&scene, path).await, ids.iter().cloned().collect());
    assert_eq!(listed(&scene, "/v1/users/u1").await, [1, 3].map(|number: usize| ids[number].clone()).into());

    scene.native.ok(&format!("DELETE {path}/tunnels/{}", ids[0]), &Value::Null).await;
    scene.native.ok(&format!("DELETE {path}/tunnels/{}", ids[0]), &Value::Null).await;
    clients[1].send_close(1000).await;
    scene.hooks.events(&ids[1], 2).await;
    assert_eq!(listed(&scene, path).await, ids[2..].iter().cloned().collect());
    assert_eq!(listed(&scene, "/v1/users/u1").await, [ids[3].clone()].into());

    scene.native.ok(&format!("PUT {path}/tunnels/{}", ids[0]), &Value::Null).await;
    assert!(listed(&scene, path).await.contains(&ids[0]));
    let join_closed = scene.native.refused(&format!("PUT {path}/tunnels/{}", ids[1]), &Value::Null).await;
    assert_eq!(join_closed, (404, "tunnel_not_open".into()));

    let pushed = scene.native.push(&json!({"group": "房间/1"}), &json!("all")).await;
    assert_eq!((&pushed["targets"], &pushed["accepted"]), (&json!(4), &json!(4)));
    for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| *number != 1) {
        assert_eq!(client.recv_packet().await, "all", "{number}");
    }
}

#[tokio::test]
async fn another_tenants_groups_are_another_world() {
    let scene = Scene::with(&[
        ("tenants.2.id", "other"),
        ("tenants.2.keys", "another key of 16+"),
        ("tenants.2.receive_hosts", "127.0.0.1"),
    ])
    .await;
    let client = scene.native.open(&json!({"user": "ann", "groups": ["room"]})).await;
    let other = crate::support::native::Native {
        tenant: "other".into(),
        key: "another key of 16+".into(),
        ..scene.native.clone()
    };

    assert_eq!(other.refused("GET /v1/groups/room", &Value::Null).await.1, "group_unknown");
    assert_eq!(other.refused("GET /v1/users/ann", &Value::Null).await.1, "user_unknown");
    let line = format!("PUT /v1/groups/room/tunnels/{}", client.tunnel);
    assert_eq!(other.refused(&line, &Value::Null).await.1, "tunnel_not_open");
    assert_eq!(other.refused(&format!("GET /v1/tunnels/{}", client.tunnel), &Value::Null).await.1, "tunnel_not_open");
    assert_eq!(other.push(&json!({"tunnels": [client.tunnel]}), &json!(1)).await["gone"], json!([client.tunnel]));
}

#[tokio::test]
async fn a_tunnel_is_in_sixty_four_groups_at_most() {
    let scene = Scene::new().await;
    let client = scene.native.open(&Value::Null).await;
    for number in 0..64 {
        scene.native.ok(&format!("PUT /v1/groups/{number}/tunnels/{}", client.tunnel), &Value::Null).await;
    }

    let line = format!("PUT /v1/groups/64/tunnels/{}", client.tunnel);
    assert_eq!(scene.native.refused(&line, &Value::Null).await, (422, "too_many_groups".into()));
}

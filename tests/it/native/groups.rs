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
async fn an_empty_group_is_no_error_unless_one_is_wanted() {
    let scene = Scene::new().await;
    let nothing = json!({"targets": 0, "accepted": 0, "gone": [], "slow": [], "unreachable": []});

    assert_eq!(
        scene.native.ok("GET /v1/groups/room", &Value::Null).await,
        json!({"count": 0, "tunnels": [], "members": []})
    );
    for to in [json!({"group": "room"}), json!({"user": "ann"})] {
        assert_eq!(scene.native.push(&to, &json!(1)).await, nothing, "{to}");
        let strict = json!({"to": to, "content": 1, "strict": true});
        assert_eq!(scene.native.refused("POST /v1/push", &strict).await.0, 404, "{to}");
    }
    let client = scene.native.open(&json!({"groups": ["room"]})).await;
    let all_but_one = json!({"to": {"group": "room"}, "except": [client.tunnel], "content": 1, "strict": true});
    assert_eq!(scene.native.ok("POST /v1/push", &all_but_one).await["targets"], 0, "the group is not empty");
}

#[tokio::test]
async fn tunnels_groups_and_users_are_listed_by_page() {
    let scene = Scene::new().await;
    let mut clients = vec![];
    for (user, groups) in [(json!("ann"), json!(["a", "b"])), (json!("bob"), json!(["b"])), (Value::Null, json!([]))] {
        clients.push(scene.native.open(&json!({"user": user, "groups": groups})).await);
    }
    let mut ids: Vec<&str> = clients.iter().map(|client| client.tunnel.as_str()).collect();
    ids.sort_unstable();
    let get = async |path: &str| scene.native.ok(&format!("GET /v1/{path}"), &Value::Null).await;

    let first = get("tunnels?limit=2").await;
    assert_eq!((&first["count"], &first["tunnels"]), (&json!(3), &json!(&ids[..2])));
    let rest = get(&format!("tunnels?limit=2&cursor={}", first["nextCursor"].as_str().expect("more"))).await;
    assert_eq!((&rest["tunnels"], &rest["nextCursor"]), (&json!(&ids[2..]), &Value::Null));
    let a = get("groups/a").await;
    assert_eq!(a["members"], json!([{"tunnelId": clients[0].tunnel, "user": "ann"}]));

    let groups = get("groups?limit=1").await;
    assert_eq!(groups, json!({"groups": [{"name": "a", "tunnels": 1}], "nextCursor": "a"}));
    assert_eq!(get("groups?cursor=a").await, json!({"groups": [{"name": "b", "tunnels": 2}]}));
    let users = get("users").await;
    assert_eq!(users, json!({"users": [{"name": "ann", "tunnels": 1}, {"name": "bob", "tunnels": 1}]}));
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

    assert_eq!(other.ok("GET /v1/groups/room", &Value::Null).await["count"], 0);
    assert_eq!(other.ok("GET /v1/users/ann", &Value::Null).await["count"], 0);
    let line = format!("PUT /v1/groups/room/tunnels/{}", client.tunnel);
    assert_eq!(other.refused(&line, &Value::Null).await.1, "tunnel_not_open");
    assert_eq!(other.refused(&format!("GET /v1/tunnels/{}", client.tunnel), &Value::Null).await.1, "tunnel_not_open");
    assert_eq!(other.ok("GET /v1/tunnels", &Value::Null).await["count"], 0);
    assert_eq!(other.ok("GET /v1/groups", &Value::Null).await["groups"], json!([]));
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

#[tokio::test]
async fn the_names_of_a_tenant_are_limited_and_the_error_says_by_what() {
    let scene = Scene::with(&[("webhook.max_pending_closes", "5")]).await;
    let groups: Vec<String> = (0..8).map(|number| format!("g{number}")).collect();
    let client = scene.native.open(&json!({"user": "u", "groups": groups})).await;
    let join = |group: &str| format!("PUT /v1/groups/{group}/tunnels/{}", client.tunnel);

    let refusal = scene.native.call(&join("one-more"), &Value::Null).await;
    assert_eq!(refusal.status, 422, "{}", refusal.body);
    for words in ["too_many_groups", "take 5 KiB", "webhook.max_pending_closes"] {
        assert!(refusal.body.contains(words), "{}", refusal.body);
    }
    let (status, code) = scene.native.refused("POST /v1/tunnels", &json!({"groups": ["one-more"]})).await;
    assert_eq!((status, code.as_str()), (422, "too_many_groups"));

    scene.native.ok(&join("g0"), &Value::Null).await;
    let _other = scene.native.open(&json!({"user": "u", "groups": ["g1"]})).await;
    scene.native.ok(&format!("DELETE /v1/groups/g0/tunnels/{}", client.tunnel), &Value::Null).await;
    scene.native.ok(&join("one-more"), &Value::Null).await;
}

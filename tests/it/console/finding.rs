//! What an operator finds, and does with it.

use serde_json::Value;
use serde_json::json;

use super::Operator;
use super::TOKEN;
use super::refusal;
use crate::support::Cluster;
use crate::support::TestClient;
use crate::support::World;
use crate::support::hooks::Hooks;
use crate::support::native::Native;
use crate::support::within;

const SHOP_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receive URL where nothing listens.
const NOTHING: &str = "http://127.0.0.1:9/events?secret=1";

/// A world with a console that may write, and a native tenant with its webhook beside the Wafer one.
async fn scene(settings: &[(&str, &str)]) -> (World, Native, Hooks, Operator) {
    let hooks = Hooks::new(SHOP_KEY).await;
    let url = hooks.url();
    let own = [
        ("console.token", TOKEN),
        ("console.write", "true"),
        ("tenants.1.id", "shop"),
        ("tenants.1.keys", SHOP_KEY),
        ("tenants.1.receive_hosts", "127.0.0.1"),
        ("tenants.1.webhook_url", &url),
    ];
    let world = World::with(&[&own[..], settings].concat()).await;
    let native = Native { gateway: world.gateway.address, tenant: "shop".into(), key: SHOP_KEY.into() };
    let operator = Operator::of(&world.gateway).await;
    (world, native, hooks, operator)
}

fn ids(found: &Value) -> Vec<&str> {
    let tunnels = found["tunnels"].as_array().expect("a list");
    tunnels.iter().map(|tunnel| tunnel["tunnelId"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn a_tunnel_is_found_by_what_an_operator_knows() {
    let (world, native, hooks, operator) = scene(&[]).await;
    let wafer = world.connect_and_settle().await;
    let url = hooks.url();
    let wish = json!({"user": "Zoë <b>", "groups": ["a & b"], "metadata": {"order": "of the business"}});
    let shop = native.open(&wish).await;

    for (text, expected) in [
        (&wafer.tunnel[..], &wafer.tunnel),
        (&wafer.tunnel[..12], &wafer.tunnel),
        ("Zo%C3%AB+%3Cb%3E", &shop.tunnel),
        ("user:Zo%C3%AB+%3Cb%3E", &shop.tunnel),
        ("group:a+%26+b", &shop.tunnel),
        ("a+%26+b", &shop.tunnel),
    ] {
        assert_eq!(ids(&operator.read(&format!("tunnels?q={text}")).await), [expected], "{text}");
    }
    assert_eq!(ids(&operator.read(&format!("tunnels?q={url}")).await), [&shop.tunnel]);
    assert_eq!(ids(&operator.read("tunnels?q=http://127.0.0.1:").await).len(), 2);
    for nothing in ["user:a+%26+b", "group:Zo", "tffffffff", "http://127.0.0.1:1/"] {
        assert!(ids(&operator.read(&format!("tunnels?q={nothing}")).await).is_empty(), "{nothing}");
    }
    for short in ["", "+", "http://", "user:"] {
        let answer = operator.get(&format!("tunnels?q={short}")).await;
        assert_eq!(refusal(&answer), (400, "parameter_invalid".into()), "{short}");
    }

    let tunnel = operator.read(&format!("tunnels/{}", shop.tunnel)).await;
    assert_eq!((&tunnel["tenant"], &tunnel["user"]), (&json!("shop"), &json!("Zoë <b>")));
    assert_eq!(tunnel["url"].as_str(), Some(&url[..]));
    assert!(tunnel["metadata"].is_null(), "it is its tenant's: {tunnel}");
    let unknown = operator.get("tunnels/t00000000000000000000000000000000").await;
    assert_eq!(refusal(&unknown), (404, "not_open".into()));
    drop((wafer, shop));
    world.finish().await;
}

#[tokio::test]
async fn a_search_never_lists_them_all() {
    let (world, native, _hooks, operator) = scene(&[]).await;
    let mut clients = vec![];
    for _ in 0..120 {
        clients.push(native.open(&json!({"groups": ["all"]})).await);
    }
    let mut expected: Vec<String> = clients.iter().map(|client| client.tunnel.clone()).collect();
    expected.sort_unstable();

    let (mut found, mut cursor, mut pages) = (vec![], String::new(), 0);
    loop {
        let page = operator.read(&format!("tunnels?q=group:all{cursor}")).await;
        assert!(ids(&page).len() <= 50);
        found.extend(ids(&page).into_iter().map(str::to_owned));
        pages += 1;
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }

    assert_eq!((found, pages), (expected, 3));
    drop(clients);
    world.finish().await;
}

#[tokio::test]
async fn the_receive_url_that_fails_comes_first_with_its_reason() {
    let (world, native, _hooks, operator) = scene(&[]).await;
    let mut healthy = world.connect_and_settle().await;
    healthy.send("message:1").await;
    world.business.story(&healthy.tunnel, &["connect", "message:1"]).await;
    let broken = native.open(&json!({"user": "u", "webhookUrl": NOTHING})).await;

    let first = async || operator.read("endpoints?sort=failing").await["endpoints"][0].clone();
    let row = within("its failure is counted", async {
        loop {
            let row = first().await;
            if row["hourFailed"].as_u64() > Some(0) {
                return row;
            }
        }
    })
    .await;

    assert_eq!(
        (&row["tenant"], &row["url"]),
        (&json!("shop"), &json!("http://127.0.0.1:9/events")),
        "without its query"
    );
    assert_eq!(row["isFailing"], true);
    let failure = &row["failure"];
    assert_eq!(failure["tunnelId"], broken.tunnel);
    assert!(failure["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
    let busiest = operator.read("endpoints?sort=busy&limit=1").await;
    assert_eq!(busiest["measured"], 2);
    let moment = &operator.read("overview").await["pulse"];
    assert_eq!(moment["tunnels"], 2);
    drop((healthy, broken));
    world.gateway.kill().await;
}

#[tokio::test]
async fn the_story_of_a_tunnel_is_told_also_after_its_end() {
    let (world, _, _hooks, operator) = scene(&[]).await;
    let mut client = world.connect_and_settle().await;
    client.send("message:1").await;
    world.business.story(&client.tunnel, &["connect", "message:1"]).await;
    world.wafer.push(&[&client.tunnel], "secret content").await;
    client.expect("message:secret content").await;
    let tunnel = client.tunnel.clone();
    drop(client);
    world.business.story(&tunnel, &["connect", "message:1", "close"]).await;
    world.gateway.until_metric("webhook_queue", 0.0).await;

    let story = operator.read(&format!("tunnels/{tunnel}/timeline")).await;

    let records = story["records"].as_array().expect("a list");
    let kinds: Vec<&str> = records.iter().filter_map(|record| record["type"].as_str()).collect();
    assert_eq!(kinds, ["requested", "connected", "attempt", "attempt", "push", "closed", "attempt"], "{story}");
    assert_eq!((&story["isOn"], &story["before"]), (&json!(true), &Value::Null));
    assert!(!story.to_string().contains("secret content"), "payloads are their tenant's");
    let last = operator.read(&format!("tunnels/{tunnel}/timeline?limit=2")).await;
    let before = last["before"].as_u64().expect("there are older ones");
    let older = operator.read(&format!("tunnels/{tunnel}/timeline?before={before}")).await;
    let count = |story: &Value| story["records"].as_array().map_or(0, Vec::len);
    assert_eq!(count(&last) + count(&older), kinds.len());
    let nothing = operator.read("tunnels/t00000000000000000000000000000000/timeline").await;
    assert_eq!(count(&nothing), 0);
    world.finish().await;
}

#[tokio::test]
async fn the_story_is_that_of_all_nodes() {
    let cluster = Cluster::with(3, &[("console.token", TOKEN)]).await;
    let mut client = cluster.connect(0, 1).await;
    client.send("message:1").await;
    cluster.business.story(&client.tunnel, &["connect", "message:1"]).await;
    let tunnel = client.tunnel.clone();
    let tell = async |node: usize| {
        let operator = Operator::of(&cluster.nodes[node]).await;
        operator.read(&format!("tunnels/{tunnel}/timeline")).await
    };

    // The URL was asked for at one node, and used at another one; the third has recorded nothing of it.
    for node in 0..3 {
        let told = within("all of it is recorded", async {
            loop {
                let story = tell(node).await;
                let records = story["records"].as_array().expect("a list");
                let kinds: Vec<&str> = records.iter().filter_map(|record| record["type"].as_str()).collect();
                if kinds.starts_with(&["requested", "connected", "attempt", "attempt"]) {
                    return story;
                }
            }
        })
        .await;
        let nodes = told["nodes"].as_array().expect("a list");
        assert_eq!(nodes.len(), 3, "{told}");
        assert!(nodes.iter().all(|node| node["isComplete"] == true && node["gap"].is_null()), "{told}");
    }
    client.send("close").await;
}

#[tokio::test]
async fn tenants_near_a_limit_come_first() {
    let (world, native, _hooks, operator) =
        scene(&[("tenants.1.limits.connections", "2"), ("tenants.0.limits.connections", "100")]).await;
    let shop = native.open(&json!({})).await;
    let wafer = [world.connect().await, world.connect().await];

    let page = operator.read("tenants?near-limit").await;

    let first = &page["tenants"][0];
    assert_eq!((&page["count"], &first["id"]), (&json!(2), &json!("shop")), "{page}");
    assert_eq!(first["uses"][0], json!({"name": "connections", "used": 1, "limit": 2}));
    assert!(!page.to_string().contains(SHOP_KEY) && !page.to_string().contains("whsec"), "keys by fingerprint only");
    let by_id = operator.read("tenants?limit=1").await;
    let next = by_id["nextCursor"].as_str().expect("there is another");
    assert_eq!(operator.read(&format!("tenants?limit=1&cursor={next}")).await["tenants"][0]["id"], "shop");
    drop((shop, wafer));
    world.finish().await;
}

#[tokio::test]
async fn a_message_is_sent_and_a_tunnel_closed() {
    let (world, _, _hooks, operator) = scene(&[]).await;
    let mut client: TestClient = world.connect_and_settle().await;
    let path = |action: &str| format!("tunnels/{}/{action}", client.tunnel);
    let (push, close) = (path("push"), path("close"));

    let done = operator.post(&push, &json!({"text": "ping from 运维"})).await;
    assert_eq!(done.json(), json!({"result": "accepted"}));
    client.expect("message:ping from 运维").await;
    assert_eq!(operator.post(&push, &json!({"txt": 1})).await.status, 400);
    assert_eq!(operator.post(&close, &json!({})).await.json(), json!({"result": "accepted"}));
    client.expect("close").await;
    client.close_code().await;

    world.business.story(&client.tunnel, &["connect", "close"]).await;
    assert_eq!(refusal(&operator.post(&push, &json!({"text": "x"})).await), (404, "not_open".into()));
    world.finish().await;
}

#[tokio::test]
async fn tunnels_where_most_waits_are_listed() {
    let (world, native, _hooks, operator) = scene(&[]).await;
    let mut waiting = native.open(&json!({"user": "u", "webhookUrl": NOTHING})).await;
    waiting.send(&"x".repeat(1_000)).await;

    let slow = within("its events wait", async {
        loop {
            let slow = operator.read("slow?limit=5").await;
            if slow[0]["events"].as_u64() >= Some(2) {
                return slow;
            }
        }
    })
    .await;

    assert_eq!((&slow[0]["tunnelId"], &slow[0]["user"]), (&json!(waiting.tunnel), &json!("u")));
    drop(waiting);
    world.gateway.kill().await;
}

//! Wafer's login protocol.

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;

use super::Login;
use super::pair;
use super::read;
use crate::support::request;
use crate::support::wechat::APP;
use crate::support::wechat::SECRET;
use crate::support::wechat::profile_of;

/// Code and message.
fn verdict(answer: &Value) -> (u64, &str) {
    (answer["returnCode"].as_u64().expect("a code"), answer["returnMessage"].as_str().expect("a message"))
}

async fn log_in_with(login: &Login, code: &str, (data, iv): (String, String)) -> Value {
    login.call("id_skey", json!({ "code": code, "encrypt_data": data, "iv": iv })).await
}

#[tokio::test]
async fn a_user_logs_in_and_is_known() {
    let login = Login::new().await;
    let data = login.wechat.data("ann", &profile_of("ann", "三木/😀"));

    let answer = log_in_with(&login, "ann-1", data.clone()).await;

    assert_eq!(verdict(&answer), (0, "NEW_SESSION_SUCCESS"));
    let user = &answer["returnData"]["user_info"];
    assert_eq!((&user["openId"], &user["nickName"], &user["gender"]), (&json!("oann"), &json!("三木/😀"), &json!(1)));
    assert_eq!(answer["returnData"]["duration"], 7_200);
    let checked = login.check(&pair(&answer)).await;
    assert_eq!(verdict(&checked), (0, "AUTH_SUCCESS"));
    assert_eq!(&checked["returnData"]["user_info"], user);
    let again = log_in_with(&login, "ann-2", data).await;
    assert_eq!(verdict(&again), (0, "UPDATE_SESSION_SUCCESS"));
    assert_ne!(pair(&again), pair(&answer), "each login is a session of its own");
    assert_eq!(verdict(&login.check(&pair(&answer)).await).0, 0, "and both are valid");
}

#[tokio::test]
async fn a_code_alone_logs_in_and_keeps_what_is_known() {
    let login = Login::new().await;
    let answer = login.call("id_skey", json!({ "code": "ann-1" })).await;
    let user = &answer["returnData"]["user_info"];
    assert_eq!((&user["openId"], &user["nickName"], &user["gender"]), (&json!("oann"), &json!(""), &json!(0)));

    log_in_with(&login, "ann-2", login.wechat.data("ann", &profile_of("ann", "三木"))).await;
    let anonymous = login.wechat.data("ann", &profile_of("ann", "微信用户"));
    let answer = log_in_with(&login, "ann-3", anonymous).await;

    assert_eq!(answer["returnData"]["user_info"]["nickName"], "三木", "anonymous data replaces no name");
    let answer = login.call("id_skey", json!({ "code": "ann-4", "encrypt_data": null, "iv": null })).await;
    assert_eq!(answer["returnData"]["user_info"]["nickName"], "三木");
}

#[tokio::test]
async fn data_must_be_of_this_user_and_app() {
    let login = Login::new().await;
    let other_app = json!({ "openId": "oann", "watermark": { "appid": "wxother" } });
    for (number, data) in [
        login.wechat.data("ann", &profile_of("bob", "x")),
        login.wechat.data("bob", &profile_of("ann", "x")),
        login.wechat.data("ann", &other_app),
        login.wechat.data("ann", &json!([1])),
        ("AAAA".into(), "AAAA".into()),
        ("not base64".into(), "old".into()),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = log_in_with(&login, &format!("ann-{number}"), data).await;
        assert_eq!(verdict(&answer), (60021, "DECRYPT_FAIL"), "{number}");
    }
}

#[tokio::test]
async fn data_encrypted_with_the_key_before_is_taken() {
    let login = Login::new().await;
    log_in_with(&login, "ann-1", login.wechat.data("ann", &profile_of("ann", "a"))).await;
    // wx.login replaces the key after the client got its data.
    let data = login.wechat.data("ann", &profile_of("ann", "b"));
    login.wechat.replace_key("ann");

    let answer = log_in_with(&login, "ann-2", data.clone()).await;
    assert_eq!(answer["returnData"]["user_info"]["nickName"], "b");
    assert_eq!(verdict(&log_in_with(&login, "ann-3", data.clone()).await).0, 0, "the key before is still known");
    login.wechat.replace_key("ann");
    assert_eq!(verdict(&log_in_with(&login, "ann-4", data.clone()).await).0, 0, "the store knows the one before this");
    login.wechat.replace_key("ann");
    assert_eq!(verdict(&log_in_with(&login, "ann-5", data).await), (60021, "DECRYPT_FAIL"), "two back is too old");
}

#[tokio::test]
async fn what_wechat_says_is_told() {
    let login = Login::new().await;
    let refused = |code: i64| json!({ "errcode": code, "errmsg": "words, rid: 1" }).to_string();
    for (status, body, expected) in [
        (200, refused(40029), (40029, "WEIXIN_CODE_ERR")),
        (200, refused(40163), (40029, "WEIXIN_CODE_ERR")),
        (200, refused(41008), (40029, "WEIXIN_CODE_ERR")),
        (200, refused(40226), (40029, "WEIXIN_CODE_ERR")),
        (200, refused(40125), (1007, "WEIXIN_RETURN_ERR (40125 words)")),
        (200, refused(45011), (1007, "WEIXIN_RETURN_ERR (45011 words)")),
        (200, "<html>".into(), (1007, "WEIXIN_RETURN_ERR")),
        (200, "{}".into(), (1007, "WEIXIN_RETURN_ERR")),
        (200, String::new(), (1005, "WEIXIN_NET_ERR")),
        (500, refused(0), (1005, "WEIXIN_NET_ERR")),
        (302, String::new(), (1005, "WEIXIN_NET_ERR")),
    ] {
        login.wechat.answer_next(status, &body);
        let answer = login.call("id_skey", json!({ "code": "ann-1" })).await;
        assert_eq!(verdict(&answer), expected, "{status} {body}");
    }
    assert_eq!(verdict(&login.call("id_skey", json!({ "code": "ann-1" })).await).0, 0);
    assert_eq!(verdict(&login.call("id_skey", json!({ "code": "ann-1" })).await).0, 40029, "a used code");
}

#[tokio::test]
async fn a_lost_connection_and_a_busy_wechat_are_tried_once_more() {
    let login = Login::new().await;
    login.wechat.hang_up_next();
    assert_eq!(verdict(&login.call("id_skey", json!({ "code": "ann-1" })).await).0, 0);
    let busy = json!({ "errcode": -1, "errmsg": "system error" });
    login.wechat.answer_next(200, &busy);
    assert_eq!(verdict(&login.call("id_skey", json!({ "code": "ann-2" })).await).0, 0);
    login.wechat.answer_next(200, &busy);
    login.wechat.answer_next(200, &busy);
    let answer = login.call("id_skey", json!({ "code": "ann-3" })).await;
    assert_eq!(verdict(&answer), (1007, "WEIXIN_RETURN_ERR (-1 system error)"));
    assert_eq!(login.gateway.metric("wechat_requests_total{api=\"code2session\",result=\"busy\"}").await, 3.0);
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_failed_login() {
    let both = format!("old-secret-of-the-app\n{SECRET}");
    let login = Login::with(&[("session.apps.0.secret", &both)]).await;

    login.enter("ann", 1).await;
    login.enter("ann", 2).await;

    let asked = login.wechat.seen().len();
    assert_eq!(asked, 3, "the right one is tried first from the second login on");
    login.wechat.set_secrets(&["old-secret-of-the-app"]);
    login.enter("ann", 3).await;
    login.wechat.set_secrets(&[]);
    let answer = login.call("id_skey", json!({ "code": "ann-4" })).await;
    assert_eq!(verdict(&answer), (1007, "WEIXIN_RETURN_ERR (40125 invalid appsecret)"));
}

#[tokio::test]
async fn a_code_cannot_change_the_request_to_wechat() {
    let login = Login::new().await;

    login.call("id_skey", json!({ "code": "x&appid=wxevil#" })).await;

    let seen = login.wechat.seen();
    assert!(seen[0].starts_with(&format!("/sns/jscode2session?appid={APP}&secret=")), "{seen:?}");
    assert!(seen[0].contains("js_code=x%26appid%3Dwxevil%23&grant_type="), "{seen:?}");
}

#[tokio::test]
async fn who_has_no_session_is_told_so_and_nothing_else() {
    let login = Login::new().await;
    let (id, skey) = login.enter("ann", 1).await;
    let upper = skey.to_uppercase();
    for (id, skey) in [
        (id.as_str(), "k00000000000000000000000000000000"),
        (&id, &upper),
        (&id.to_uppercase(), &skey),
        ("", ""),
        (&id, ""),
        ("\" or 1=1 #", &skey),
        ("' or 1=1 --", "' or 1=1 --"),
        ("x\" union select appid,1,1,1,1,1,1,1 from cAppinfo #", "x"),
        (&"x".repeat(200_000), "x"),
        ("三", "木"),
    ] {
        let answer = login.check(&(id.into(), skey.into())).await;
        assert_eq!(verdict(&answer), (60012, "AUTH_FAIL"), "{}", &id[..id.len().min(40)]);
    }
    for para in [json!({ "id": id }), json!({ "id": id, "skey": null }), json!({ "id": [id], "skey": { "a": 1 } })] {
        assert_eq!(verdict(&login.call("auth", para).await), (1003, "PARA_ERR"));
    }
}

#[tokio::test]
async fn what_is_no_call_is_answered_in_the_protocol() {
    let login = Login::new().await;
    let megabyte = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
    for (body, code) in
        [("", 1009), ("junk", 1009), ("[]", 1002), ("null", 1002), (megabyte.as_str(), 1009), ("\u{feff}{}", 1002)]
    {
        for path in ["/mina_auth", "/mina_auth/", "/mina_auth/index.php", "//mina_auth/?x=1"] {
            assert_eq!(verdict(&read(&login.post(path, "", body).await)).0, code, "{path}");
        }
    }
    for method in ["GET", "PUT", "DELETE"] {
        let answer = request(login.gateway.address, &format!("{method} /mina_auth/"), "", b"").await;
        assert_eq!(verdict(&read(&answer)), (1009, "REQUEST_IS_NOT_JSON"));
    }
    let gzip = login.post("/mina_auth/", "Content-Encoding: gzip\r\n", "{}").await;
    assert_eq!(verdict(&read(&gzip)).0, 1009);
    let wiped = json!({ "appid": "x", "secret": "x", "ip": "x", "cdb_ip": "x", "cdb_port": 1, "cdb_pass_wd": "x" });
    assert_eq!(verdict(&login.call("initdata", wiped).await), (1010, "INTERFACENAME_PARA_ERR"));
    let form = "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n";
    assert_eq!(login.post("/mina_auth/", form, "{}").await.status, 100, "the client sends its body then");
}

#[tokio::test]
async fn data_is_decrypted_with_a_session() {
    let login = Login::new().await;
    let (id, skey) = login.enter("ann", 1).await;
    let of_app = |app: &str| json!({ "openGId": "三", "watermark": { "appid": app } });
    let (data, iv) = login.wechat.data("ann", &of_app(APP));
    let para = |id: &str, data: &str| json!({ "id": id, "skey": skey, "encrypt_data": data, "iv": iv });

    let answer = login.call("decrypt", para(&id, &data)).await;
    assert_eq!(verdict(&answer), (0, "DECRYPT_SUCCESS"));
    assert_eq!(answer["returnData"], of_app(APP).to_string());
    let answer = login.call("decrypt", para("other", &data)).await;
    assert_eq!(verdict(&answer), (60021, "GET_SESSION_KEY_FAIL"));
    let answer = login.call("decrypt", para(&id, "AAAA")).await;
    assert_eq!(verdict(&answer), (60021, "GET_SESSION_KEY_SUCCESS_BUT_DECRYPT_FAIL"));
    let (of_another, _) = login.wechat.data("ann", &of_app("wxother"));
    let answer = login.call("decrypt", para(&id, &of_another)).await;
    assert_eq!(verdict(&answer), (60021, "GET_SESSION_KEY_SUCCESS_BUT_DECRYPT_FAIL"), "data of another app");
    assert_eq!(verdict(&login.call("decrypt", json!({ "id": id, "skey": skey })).await).0, 1003);
}

#[tokio::test]
async fn parallel_logins_of_a_user_are_all_valid_and_the_oldest_ends() {
    let login = Login::with(&[("session.sessions_per_user", "3")]).await;
    let first = login.enter("ann", 0).await;
    assert_eq!(verdict(&login.check(&first).await).0, 0);

    let later = join_all((1..=3).map(|number| login.enter("ann", number))).await;

    assert_eq!(verdict(&login.check(&first).await), (60012, "AUTH_FAIL"), "at once, although it was cached");
    for session in &later {
        assert_eq!(verdict(&login.check(session).await).0, 0);
    }
    let others = join_all((0..20).map(async |user| login.enter(&format!("u{user}"), 1).await)).await;
    assert_eq!(others.len(), 20);
}

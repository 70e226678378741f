//! Requests as the four server SDKs were seen to send them, byte for byte, with WeChat's own example of a user's data.

use serde_json::Value;
use serde_json::json;

use super::Login;
use super::pair;
use super::read;
use crate::support::RawClient;

const LOGIN: &str = r#"{"version":1,"componentName":"MA","interface":{"interfaceName":"qcloud.cam.id_skey","para":{"code":"001EWY","encrypt_data":"DATA","iv":"r7BXXKkLb8qrSNn05n0qiA=="}}}"#;
const JAVA_LOGIN: &str = r#"{"componentName":"MA","interface":{"para":{"code":"001EWY","encrypt_data":"DATA","iv":"r7BXXKkLb8qrSNn05n0qiA=="},"interfaceName":"qcloud.cam.id_skey"},"version":1}"#;
const CHECK: &str = r#"{"version":1,"componentName":"MA","interface":{"interfaceName":"qcloud.cam.auth","para":{"id":"ID1","skey":"SK1"}}}"#;
const JAVA_CHECK: &str = r#"{"componentName":"MA","interface":{"para":{"skey":"SK1","id":"ID1"},"interfaceName":"qcloud.cam.auth"},"version":1}"#;

/// An SDK: its headers, and its bodies.
struct Sdk {
    name: &'static str,
    headers: &'static str,
    login: &'static str,
    check: &'static str,
}

const SDKS: [Sdk; 4] = [
    Sdk {
        name: "Node",
        headers: "accept: application/json\r\ncontent-type: application/json\r\nConnection: close\r\n",
        login: LOGIN,
        check: CHECK,
    },
    Sdk {
        name: "PHP",
        // curl asks before it sends more than 1,024 bytes.
        headers: "Accept: */*\r\nContent-Type: application/json; charset=utf-8\r\nExpect: 100-continue\r\n",
        login: LOGIN,
        check: CHECK,
    },
    Sdk {
        name: "Java",
        headers: "Content-Type: application/json;charset=utf-8\r\nUser-Agent: Java/1.8.0_101\r\n\
                  Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2\r\nConnection: keep-alive\r\n",
        login: JAVA_LOGIN,
        check: JAVA_CHECK,
    },
    Sdk {
        name: "C#",
        headers: "Content-Type: application/json\r\nExpect: 100-continue\r\nConnection: Keep-Alive\r\n",
        login: LOGIN,
        check: CHECK,
    },
];

impl Sdk {
    /// Makes a call on a connection of its own.
    async fn call(&self, login: &Login, body: &str) -> Value {
        let mut client = RawClient::dial(login.gateway.address).await;
        let length = body.len();
        let head = format!(
            "POST /mina_auth/ HTTP/1.1\r\nHost: gateway.test\r\n{}Content-Length: {length}\r\n\r\n",
            self.headers
        );
        client.write(head.as_bytes()).await;
        if self.headers.contains("Expect") {
            assert_eq!(client.answer().await.status, 100, "{}", self.name);
        }
        client.write(body.as_bytes()).await;
        read(&client.answer().await)
    }
}

#[tokio::test]
async fn each_sdk_is_answered_as_it_asks() {
    let login = Login::new().await;
    let vectors: Value =
        serde_json::from_str(include_str!("../../fixtures/login/vectors.json")).expect("JSON of the fixtures");
    let example = &vectors["openData"][0];
    let data = example["encryptedData"].as_str().expect("text");
    assert!(data.contains('/') && data.contains('+'), "what PHP escapes, and what a form would lose");
    for sdk in SDKS {
        let answer = json!({ "session_key": example["sessionKey"], "openid": "oGZUI0egBJY1zhBYw2KhdUfwVJJE" });
        login.wechat.answer_next(200, answer);
        let data = if sdk.name == "PHP" { data.replace('/', "\\/") } else { data.to_owned() };

        let entered = sdk.call(&login, &sdk.login.replace("DATA", &data)).await;

        assert_eq!(entered["returnCode"], 0, "{}: {entered}", sdk.name);
        let user = &entered["returnData"]["user_info"];
        assert_eq!((&user["nickName"], &user["gender"]), (&json!("Band"), &json!(1)), "{}", sdk.name);
        assert_eq!(user["unionId"], "ocMvos6NjeKLIBqg5Mr9QjxrP1FA", "{}", sdk.name);
        let (id, skey) = pair(&entered);
        let checked = sdk.call(&login, &sdk.check.replace("ID1", &id).replace("SK1", &skey)).await;
        assert_eq!(&checked["returnData"]["user_info"], user, "{}", sdk.name);
        let other = sdk.call(&login, sdk.check).await;
        assert_eq!((&other["returnCode"], &other["returnMessage"]), (&json!(60012), &json!("AUTH_FAIL")));
    }
}

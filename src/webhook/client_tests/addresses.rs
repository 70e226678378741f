//! Addresses: what may be connected to, judged where the connection is made.

use std::sync::Arc;

use crate::webhook::attempt::AttemptError;
use crate::webhook::client_tests::LONG;
use crate::webhook::client_tests::assert_untouched;
use crate::webhook::client_tests::client;
use crate::webhook::client_tests::client_with;
use crate::webhook::client_tests::failure;
use crate::webhook::client_tests::nets;
use crate::webhook::client_tests::post;
use crate::webhook::client_tests::reporting;
use crate::webhook::client_tests::server::EMPTY;
use crate::webhook::client_tests::server::OneAnswer;
use crate::webhook::client_tests::server::TestServer;
use crate::webhook::client_tests::watched;

#[tokio::test]
async fn a_name_for_an_inner_address_is_refused_before_anything_connects() {
    let (server, accepted) = reporting().await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&[], Arc::clone(&resolver) as _, Vec::new());

    for scheme in ["http", "https"] {
        let failure = failure(&client, &server.named(scheme, "business.test"), LONG).await;
        let words = "127.0.0.1 is loopback (127.0.0.0/8); add it to webhook.allow_networks to allow it";
        assert_eq!(failure, ("refused", words.to_owned(), false));
    }

    assert_eq!(*resolver.asked.lock(), ["business.test", "business.test"]);
    assert_untouched(accepted, &server).await;
}

#[tokio::test]
async fn a_literal_inner_address_is_refused_without_asking_the_resolver() {
    let (server, accepted) = reporting().await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&[], Arc::clone(&resolver) as _, Vec::new());

    for host in ["127.0.0.1", "127.1", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let (label, ..) = failure(&client, &server.named("http", host), LONG).await;
        assert_eq!(label, "refused", "{host}");
    }

    assert!(resolver.asked.lock().is_empty());
    assert_untouched(accepted, &server).await;
}

/// Here 127.0.0.1 plays the public address, since nothing may ever connect to a real one.
#[tokio::test]
async fn one_refused_address_refuses_the_whole_answer() {
    let (server, accepted) = reporting().await;
    for answer in [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] {
        let client = client_with(&["127.0.0.1/32"], OneAnswer::new(&answer), Vec::new());

        let error = post(&client, &server.named("http", "mixed.test"), LONG).await.expect_err("refused");

        assert!(matches!(error, AttemptError::Refused(refusal) if refusal.address.to_string() == "127.0.0.2"));
    }
    assert_untouched(accepted, &server).await;
}

#[tokio::test]
async fn a_connection_looks_its_name_up_once() {
    let server = TestServer::answering(EMPTY).await;
    let resolver = OneAnswer::new(&["127.0.0.1"]);
    let client = client_with(&["127.0.0.1/32"], Arc::clone(&resolver) as _, Vec::new());

    for _ in 0..3 {
        post(&client, &server.named("http", "business.test"), LONG).await.expect("answered");
    }

    assert_eq!(*resolver.asked.lock(), ["business.test"]);
}

#[tokio::test]
async fn a_new_policy_holds_for_connections_that_already_exist() {
    let (server, mut closed) = watched(EMPTY.as_bytes()).await;
    let client = client();
    post(&client, &server.url(), LONG).await.expect("allowed");

    client.set_policy(Vec::new());

    let (label, ..) = failure(&client, &server.url(), LONG).await;
    assert_eq!(label, "refused");
    assert_eq!(closed.recv().await, Some(()), "the old connection is closed");

    client.set_policy(nets(&["127.0.0.0/8"]));
    post(&client, &server.url(), LONG).await.expect("allowed again");
}

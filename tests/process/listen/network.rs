//! Networks that break, proxies, and a process that stands still.
#![expect(clippy::disallowed_methods, reason = "these tests have no clock to be given one by")]

use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use wafergate::protocol::connector::FromConnector;

use super::gateway::FakeGateway;
use super::listener::Listener;
use super::local::LocalServer;
use super::ready;
use super::soon;

#[tokio::test]
async fn a_gateway_that_dies_gets_the_answers_again_when_it_is_back() {
    let (gateway, mut connector, mut listener, mut server) = ready(&[]).await;
    connector.message(2, 1, "x").await;
    let request = server.request().await;
    let address = gateway.address;

    // As kill -9 does: the connection is reset, the port is closed.
    drop((connector, gateway));
    let offline = listener.line_with("offline: ").await;
    assert!(offline.contains("events wait there (messages 60 s, closes 24 h)"), "{offline}");
    listener.line_with("offline: connection refused at 127.0.0.1:").await;
    request.answer(200, r#"{"code":0}"#).await;

    let gateway = FakeGateway::start_at(address).await;
    let back = Instant::now();
    let mut connector = gateway.connector().await;
    assert!(back.elapsed().as_millis() < 2_000, "{:?}", back.elapsed());
    assert_eq!(connector.hello.session.as_deref(), Some("s1"));
    assert_eq!(connector.hello.pending.len(), 1, "{:?}", connector.hello.pending);
    connector.welcome("s2").await;
    listener.line_with("ready again after ").await;
    match connector.next().await.0 {
        FromConnector::Answer(answer) => assert_eq!((answer.status, &answer.id), (200, &connector.hello.pending[0])),
        other => panic!("{other:?}"),
    }
}

/// Passes bytes on, while it is not cut.
async fn cuttable(to: std::net::SocketAddr) -> (std::net::SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut is_cut = is_cut.clone();
            tokio::spawn(async move {
                let (mut here, mut there) = (stream, TcpStream::connect(to).await.expect("connects"));
                let (mut down, mut up) = ([0; 4_096], [0; 4_096]);
                loop {
                    // What is lost on the way never comes: a retransmission after a long cut comes later than a new connection.
                    if is_cut.wait_for(|is_cut| !is_cut).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        read = here.read(&mut up) => match read {
                            Ok(1..) if *is_cut.borrow() => std::future::pending().await,
                            Ok(length @ 1..) => there.write_all(&up[..length]).await.expect("written"),
                            _ => return,
                        },
                        read = there.read(&mut down) => match read {
                            Ok(1..) if *is_cut.borrow() => std::future::pending().await,
                            Ok(length @ 1..) => here.write_all(&down[..length]).await.expect("written"),
                            _ => return,
                        },
                    }
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test]
async fn a_cut_network_is_noticed_within_ten_seconds_and_delivers_again_within_one() {
    let (gateway, mut server) = (FakeGateway::start().await, LocalServer::start().await);
    let (address, cut) = cuttable(gateway.address).await;
    let mut listener = Listener::start(&format!("http://{address}"), &["--forward-to", &server.url()]);
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;
    listener.line_with("ready").await;
    let silent = tokio::spawn(async move { while connector.poll().await {} });

    cut.send_replace(true);
    let began = Instant::now();
    listener.line_with("offline: the gateway does not respond").await;
    assert!(began.elapsed().as_secs() < 12, "{:?}", began.elapsed());
    cut.send_replace(false);
    let began = Instant::now();
    let mut connector = gateway.connector().await;
    assert_eq!(connector.hello.session.as_deref(), Some("s1"));
    connector.welcome("s2").await;
    connector.message(2, 1, "x").await;
    server.request().await.answer(200, r#"{"code":0}"#).await;

    assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
    listener.line_with("ready again").await;
    silent.abort();
}

#[tokio::test]
async fn a_process_that_was_stopped_delivers_again_when_it_runs() {
    let (gateway, connector, listener, mut server) = ready(&[]).await;

    listener.signal("STOP");
    // What a gateway does behind 45 s of silence.
    drop(connector);
    listener.signal("CONT");
    let began = Instant::now();
    let mut connector = gateway.connector().await;
    connector.welcome("s2").await;
    connector.message(2, 1, "x").await;
    server.request().await.answer(200, r#"{"code":0}"#).await;

    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
}

/// A proxy that wants a login, and passes to `to` whatever it is asked for.
async fn proxy(to: std::net::SocketAddr) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![];
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let head = String::from_utf8(head).expect("text");
                assert!(head.starts_with("CONNECT ws.example.com:80 HTTP/1.1\r\n"), "{head}");
                if !head.contains("Proxy-Authorization: Basic dUB4OnNlY3JldA==\r\n") {
                    let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n";
                    let _ = stream.write_all(refusal.as_bytes()).await;
                    return;
                }
                let mut there = TcpStream::connect(to).await.expect("connects");
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("written");
                let _ = copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_with_a_login_is_passed_and_one_without_says_what_it_wants() {
    let gateway = FakeGateway::start().await;
    let proxy = proxy(gateway.address).await;
    let url = "http://ws.example.com";
    let forward = ["--forward-to", "http://127.0.0.1:1"];

    let mut without = Listener::start_with(url, &forward, &[("http_proxy", &format!("http://{proxy}"))]);
    let offline = without.line_with("offline: ").await;
    assert!(
        offline.contains("it wants a user and a password (407): name it as http://user:password@host:port"),
        "{offline}"
    );
    let wrong = format!("http://u%40x:other@{proxy}");
    let mut with_wrong = Listener::start_with(url, &[&forward[..], &["--proxy", &wrong]].concat(), &[]);
    let offline = with_wrong.line_with("offline: ").await;
    assert!(
        offline.contains("it does not accept this user and password (407)") && !offline.contains("other"),
        "{offline}"
    );

    let variables = [("http_proxy", &*format!("http://u%40x:secret@{proxy}"))];
    let mut listener = Listener::start_with(url, &forward, &variables);
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;
    listener.line_with("ready").await;
}

#[tokio::test]
async fn a_gateway_with_a_private_authority_is_trusted_by_ssl_cert_file() {
    use rcgen::CertifiedKey;
    use rustls_pki_types::PrivateKeyDer;

    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a key and its certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let gateway = FakeGateway::start().await;
    let front = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let (port, to) = (front.local_addr().expect("an address").port(), gateway.address);
    tokio::spawn(async move {
        while let Ok((stream, _)) = front.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut there = TcpStream::connect(to).await.expect("connects");
                let _ = copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), cert.pem()).expect("written");
    let url = format!("https://localhost:{port}");
    let forward = ["--forward-to", "http://127.0.0.1:1"];

    let mut stranger = Listener::start(&url, &forward);
    let offline = stranger.line_with("offline: ").await;
    assert!(offline.contains("TLS with localhost: certificate signed by itself"), "{offline}");
    let variables = [("SSL_CERT_FILE", file.path().to_str().expect("text"))];
    let mut listener = Listener::start_with(&url, &forward, &variables);
    let mut connector = gateway.connector().await;
    connector.welcome("s1").await;
    let ready = listener.line_with("ready").await;
    assert!(ready.contains(&format!("https://localhost:{port}/@ann")), "{ready}");
    soon("a tidy end", async { listener.signal("INT") }).await;
}

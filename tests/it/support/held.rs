//! A way to Redis on which something can get stuck, while other connections go on: packets are lost, and sent again much later.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::Gate;
use super::within;

/// Relays bytes to Redis and back, except for held ones.
pub(crate) struct HoldingProxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Option<Hold>>>,
    _accepting: AbortOnDropHandle<()>,
}

/// The trigger: bytes from the first occurrence of this word on that connection are held.
#[derive(Clone)]
pub(crate) struct Hold {
    word: Vec<u8>,
    begun: Gate,
    released: Gate,
    done: Gate,
}

impl Hold {
    /// Waits until something is held.
    pub(crate) async fn begun(&self) {
        within("something to hold", self.begun.passed()).await;
    }

    /// Lets Redis have it, and waits until it has done it.
    pub(crate) async fn release(&self) {
        self.released.open();
        within("Redis has done it", self.done.passed()).await;
    }
}

impl HoldingProxy {
    /// A way to the Redis at this port.
    pub(crate) async fn new(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let shared = Arc::new(Mutex::new(None));
        let holding = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, redis, Arc::clone(&holding)));
            }
        });
        Self { address, shared, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on, once.
    pub(crate) fn hold(&self, word: &str) -> Hold {
        let [begun, released, done] = [(); 3].map(|()| Gate::new());
        let hold = Hold { word: word.into(), begun, released, done };
        *self.shared.lock() = Some(hold.clone());
        hold
    }
}

async fn pass(client: TcpStream, redis: u16, holding: Arc<Mutex<Option<Hold>>>) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_redis, mut to_redis) = TcpStream::connect(("127.0.0.1", redis)).await?.into_split();
    let there = tokio::spawn(async move {
        let mut held = None;
        let mut bytes = vec![0; 65_536];
        loop {
            // A client that leaves with answers unread resets the connection; Redis still gets what was held.
            let read = from_client.read(&mut bytes).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            if held.is_none() {
                let mut holding = holding.lock();
                held = holding.take_if(|hold| bytes[..read].windows(hold.word.len()).any(|word| word == hold.word));
            }
            if let Some(Hold { begun, released, .. }) = &held {
                begun.open();
                released.passed().await;
            }
            to_redis.write_all(&bytes[..read]).await?;
        }
        to_redis.shutdown().await?;
        Ok::<_, io::Error>(held)
    });
    let mut bytes = vec![0; 65_536];
    let mut is_there = true;
    loop {
        let read = from_redis.read(&mut bytes).await?;
        if read == 0 {
            break;
        }
        // Held bytes are read to the end although the client has gone.
        is_there = is_there && to_client.write_all(&bytes[..read]).await.is_ok();
    }
    // Redis has closed the connection: it has done all that came on it.
    if let Ok(Ok(Some(hold))) = there.await {
        hold.done.open();
    }
    Ok(())
}

//! The connections to the database: each piece of work has one, within a time limit, whatever becomes of its caller.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use mysql_async::Conn;
use mysql_async::Error;
use mysql_async::Opts;
use mysql_async::OptsBuilder;
use mysql_async::Pool;
use mysql_async::PoolConstraints;
use mysql_async::PoolOpts;
use mysql_async::SslOpts;
use tokio::sync::OnceCell;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::schema;
use crate::options::DatabaseTls;
use crate::options::DatabaseUrl;
use crate::session_store::StoreAway;

/// Most connections of a node.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection is kept without work.
const IDLE: Duration = Duration::from_secs(60);
/// What a server cuts or refuses silently without: texts that are too long.
const SETUP: &str = "SET SESSION sql_mode = 'TRADITIONAL'";
/// Largest packet, in bytes; the server's default.
const MAX_PACKET_BYTES: usize = 16 * 1024 * 1024;
/// How often work is tried that lost to another transaction.
const ATTEMPTS: usize = 5;
/// The codes of work that lost to another transaction: deadlock.
const DEADLOCK: u16 = 1213;

/// The codes of a server that ends, or takes no changes any more: another one has its place.
const MOVED: [u16; 5] = [1053, 1290, 1792, 1836, 1927];

/// Codes of server errors whose text is about users, rights, databases and tables, not about what is stored.
const PLAIN: [u16; 18] =
    [1040, 1044, 1045, 1046, 1049, 1053, 1054, 1129, 1130, 1142, 1146, 1203, 1205, 1290, 1698, 1792, 1836, 1927];

/// Work on a connection.
pub(super) type Done<T> = Result<T, Error>;

/// All connections. Nothing is connected before there is work.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    options: Opts,
    pool: ArcSwap<Pool>,
    /// One for each connection at work.
    places: Arc<Semaphore>,
    /// Whether the tables are there.
    schema: OnceCell<()>,
}

impl Link {
    /// Connections to this database.
    pub(super) fn new(url: &DatabaseUrl) -> Self {
        let constraints = PoolConstraints::new(1, MAX_CONNECTIONS).expect("1 is less");
        let pool = PoolOpts::new().with_constraints(constraints).with_inactive_connection_ttl(IDLE);
        let options: Opts = builder(url).pool_opts(pool.with_reset_connection(false)).into();
        let pool = ArcSwap::from_pointee(Pool::new(options.clone()));
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self(Arc::new(Inner { options, pool, places, schema: OnceCell::new() }))
    }

    /// Runs work within `limit`, again if it lost to another transaction. Given up before its turn, it does not run; once begun, it goes
    /// on without its caller: a connection that is given up in the middle of a statement is lost.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl for<'c> Fn(&'c mut Conn) -> BoxFuture<'c, Done<T>> + Send + Sync + 'static,
    ) -> Result<T, StoreAway> {
        let inner = Arc::clone(&self.0);
        let ended = || StoreAway("its task has ended".into());
        let place = Arc::clone(&inner.places).acquire_owned().await.map_err(|_| ended())?;
        let task = tokio::spawn(async move {
            let _place = place;
            let pool = inner.pool.load_full();
            match timeout(limit, inner.with_connection(&pool, work)).await {
                Ok(done) => done.map_err(|error| {
                    if matches!(&error, Error::Server(error) if MOVED.contains(&error.code)) {
                        inner.renew(&pool);
                    }
                    away(&error)
                }),
                Err(_) => {
                    inner.renew(&pool);
                    Err(StoreAway(format!("none within {} s", limit.as_secs_f64()).into()))
                }
            }
        });
        task.await.map_err(|_| ended())?
    }
}

impl Inner {
    async fn with_connection<T>(
        &self,
        pool: &Pool,
        work: impl for<'c> Fn(&'c mut Conn) -> BoxFuture<'c, Done<T>>,
    ) -> Done<T> {
        let mut conn = pool.get_conn().await?;
        self.schema.get_or_try_init(|| schema::migrate(&mut conn)).await?;
        let mut attempt = 1;
        loop {
            match work(&mut conn).await {
                Err(Error::Server(error)) if error.code == DEADLOCK && attempt < ATTEMPTS => attempt += 1,
                done => return done,
            }
        }
    }

    /// Leaves the connections to a server that is silent or was replaced: its name may have another address by now.
    fn renew(&self, silent: &Arc<Pool>) {
        let pool = Arc::new(Pool::new(self.options.clone()));
        let before = self.pool.compare_and_swap(silent, pool);
        if Arc::ptr_eq(&before, silent) {
            let silent = Pool::clone(silent);
            // They end with the work that they have.
            tokio::spawn(silent.disconnect());
        }
    }
}

/// How a database is reached.
pub(super) fn builder(url: &DatabaseUrl) -> OptsBuilder {
    let system = || rustls_native_certs::load_native_certs().certs;
    let tls = match &url.tls {
        DatabaseTls::Disabled => None,
        DatabaseTls::Required => {
            Some(SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true))
        }
        DatabaseTls::VerifyIdentity { authorities } => {
            let roots = match authorities {
                Some(path) => vec![path.clone().into()],
                None => system().into_iter().map(|certificate| certificate.to_vec().into()).collect(),
            };
            Some(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(roots))
        }
    };
    OptsBuilder::default()
        .ip_or_hostname(&url.host)
        .tcp_port(url.port)
        .user(Some(&url.user))
        .pass(Some(url.password.expose()))
        .db_name(Some(&url.database))
        .ssl_opts(tls)
        .prefer_socket(false)
        .max_allowed_packet(Some(MAX_PACKET_BYTES))
        .init(vec![SETUP.to_owned()])
}

/// What a log may say of an error: some texts of the server quote what is stored.
pub(super) fn away(error: &Error) -> StoreAway {
    let words = match error {
        Error::Server(error) if !PLAIN.contains(&error.code) => format!("error {} of the database", error.code),
        error => error.to_string(),
    };
    StoreAway(words.into())
}

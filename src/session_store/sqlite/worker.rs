//! Threads that own one connection each, since SQLite blocks. What waits for the writing one shares its transaction, and so its sync.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::Statement;
use rusqlite::ToSql;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::session_store::StoreAway;

/// Most jobs that wait for one thread; further ones wait for a place.
const QUEUE: usize = 4_096;
/// Most writes in one transaction.
const GROUP: usize = 256;

/// A connection and the statements prepared on it so far.
pub(super) struct Prepared<'c> {
    connection: &'c Connection,
    statements: HashMap<&'static str, Statement<'c>>,
}

impl<'c> Prepared<'c> {
    fn statement(&mut self, sql: &'static str) -> rusqlite::Result<&mut Statement<'c>> {
        Ok(match self.statements.entry(sql) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.connection.prepare(sql)?),
        })
    }

    /// Runs a statement and returns the number of changed rows.
    pub(super) fn execute(&mut self, sql: &'static str, parameters: &[&dyn ToSql]) -> rusqlite::Result<usize> {
        self.statement(sql)?.execute(parameters)
    }

    /// All rows of a query.
    pub(super) fn rows<T>(
        &mut self,
        sql: &'static str,
        parameters: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.statement(sql)?.query_map(parameters, read)?.collect()
    }

    /// The first row of a query.
    pub(super) fn row<T>(
        &mut self,
        sql: &'static str,
        parameters: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let mut rows = self.statement(sql)?.query(parameters)?;
        rows.next()?.map(read).transpose()
    }
}

/// Sends the answer of a job, or the error of the transaction that it shared.
type Answer = Box<dyn FnOnce(Result<(), StoreAway>) + Send>;
/// Runs on the thread; without a connection it only answers.
type Job = Box<dyn FnOnce(Option<&mut Prepared<'_>>) -> Answer + Send>;

/// One thread.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
    /// Ends once `jobs` is gone.
    _thread: JoinHandle<()>,
}

impl Worker {
    /// A thread for reading.
    pub(super) fn reader(connection: Connection) -> std::io::Result<Self> {
        Self::start("sessions-read", move |mut jobs| {
            let mut prepared = Prepared { connection: &connection, statements: HashMap::new() };
            while let Some(job) = jobs.blocking_recv() {
                job(Some(&mut prepared))(Ok(()));
            }
        })
    }

    /// The thread for writing.
    pub(super) fn writer(connection: Connection) -> std::io::Result<Self> {
        Self::start("sessions-write", move |mut jobs| {
            let mut prepared = Prepared { connection: &connection, statements: HashMap::new() };
            while let Some(first) = jobs.blocking_recv() {
                write_group(&mut prepared, first, &mut jobs);
            }
        })
    }

    fn start(name: &str, run: impl FnOnce(mpsc::Receiver<Job>) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(queue))?;
        Ok(Self { jobs, _thread: thread })
    }

    /// Runs `work` on the thread. Given up before its turn, it does not run.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Prepared<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreAway> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |prepared| {
            let done = prepared.filter(|_| !answer.is_closed()).map(work);
            Box::new(move |committed| {
                let done = committed.and_then(|()| done.ok_or_else(ended)?.map_err(away));
                // Nobody may wait for it any more.
                let _ = answer.send(done);
            })
        });
        self.jobs.send(job).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// Runs `first` and what else waits in one transaction.
fn write_group(prepared: &mut Prepared<'_>, first: Job, jobs: &mut mpsc::Receiver<Job>) {
    let begun = prepared.execute("BEGIN IMMEDIATE", &[]);
    let mut answers = vec![];
    let mut next = Some(first);
    while let Some(job) = next {
        answers.push(job(if begun.is_ok() { Some(&mut *prepared) } else { None }));
        next = if answers.len() < GROUP { jobs.try_recv().ok() } else { None };
    }
    let has_begun = begun.is_ok();
    let committed = begun.and_then(|_| prepared.execute("COMMIT", &[])).map(drop).map_err(away);
    if has_begun && committed.is_err() {
        // What failed was the commit, and that is what is answered.
        let _ = prepared.execute("ROLLBACK", &[]);
    }
    answers.into_iter().for_each(|answer| answer(committed.clone()));
}

impl Prepared<'_> {
    /// Runs a part of a transaction that is undone alone if it fails.
    pub(super) fn undoable<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.execute("SAVEPOINT part", &[])?;
        let done = work(self);
        if done.is_err() {
            self.execute("ROLLBACK TO part", &[])?;
        }
        self.execute("RELEASE part", &[])?;
        done
    }
}

fn away(error: rusqlite::Error) -> StoreAway {
    StoreAway(error.to_string().into())
}

fn ended() -> StoreAway {
    StoreAway("its thread has ended".into())
}

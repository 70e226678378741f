//! Tasks that must not end before the process does.

use tokio::task::JoinSet;

/// Named tasks, aborted when this is dropped.
#[derive(Default)]
pub(super) struct Supervisor {
    tasks: JoinSet<&'static str>,
    names: Vec<(tokio::task::Id, &'static str)>,
}

impl Supervisor {
    /// Starts a task.
    pub(super) fn over(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(async move {
            task.await;
            name
        });
        self.names.push((handle.id(), name));
    }

    /// Completes with the name of the first task that ends, by itself or by a panic.
    pub(super) async fn ended(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                tracing::error!(%error, "a task has failed by an error in the gateway");
                self.names.iter().find(|(id, _)| *id == error.id()).map_or("unknown", |(_, name)| name)
            }
            None => std::future::pending().await,
        }
    }

    /// Completes when all tasks have ended.
    pub(super) async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_ends_is_named_also_after_a_panic() {
        let mut supervisor = Supervisor::default();
        supervisor.over("idle", std::future::pending());
        supervisor.over("short", async {});
        assert_eq!(supervisor.ended().await, "short");

        supervisor.over("broken", async { panic!("an error of the test's own") });
        assert_eq!(supervisor.ended().await, "broken");
    }
}

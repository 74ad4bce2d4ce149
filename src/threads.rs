//! The threads of a server besides the one that it was started in.
//!
//! Each has a runtime of its own that no other thread helps: a session stays where its connection
//! was accepted, as it does where there is one thread alone. A thread ends when it is told to, or by
//! a panic, which is never a quiet end. What it must never know: what is done in them.

use std::io;
use std::thread::Builder;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// How long threads may take to end once they are told to: they only drop what they have.
const END_MAX: Duration = Duration::from_secs(5);

/// Running threads. Dropping it tells them to end.
#[derive(Debug)]
pub(crate) struct Threads {
    /// They go on for as long as it is there.
    go_on: watch::Sender<()>,
    /// Has the name of each that ended, and its own end when all have.
    ended: mpsc::Receiver<String>,
    /// What is to be said of the first that ended untold.
    lost: Option<String>,
}

impl Threads {
    /// Starts a thread for each job, called `podwire-1` and so on. A job gets what completes when
    /// it is to end.
    ///
    /// # Errors
    ///
    /// What the system says; those that were started then end again.
    pub(crate) fn start<J>(jobs: Vec<J>) -> io::Result<Self>
    where
        J: AsyncFnOnce(Until) + Send + 'static,
    {
        let go_on = watch::Sender::new(());
        // Room for the one word that each of them says.
        let (sender, ended) = mpsc::channel(jobs.len().max(1));
        for (number, job) in (1..).zip(jobs) {
            let (name, until) = (format!("podwire-{number}"), Until(go_on.subscribe()));
            let ended = Ended { name: name.clone(), sender: sender.clone() };
            Builder::new().name(name).spawn(move || {
                // Made here: dropped with a closure that never ran, it would panic where we are. And
                // before what tells of the end, so that a panic is told before it is dropped.
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                let _ended = ended;
                match runtime {
                    Ok(runtime) => {
                        runtime.block_on(job(until));
                        // A name that is still looked up must not hold up the end.
                        runtime.shutdown_background();
                    }
                    Err(error) => log::error!("no runtime for a thread: {error}"),
                }
            })?;
        }
        Ok(Self { go_on, ended, lost: None })
    }

    /// Completes when a thread has ended untold.
    pub(crate) async fn lost(&mut self) {
        match self.ended.recv().await {
            Some(name) => self.note(&name),
            // There are none.
            None => std::future::pending().await,
        }
    }

    /// Tells them to end, and waits until they have.
    ///
    /// # Errors
    ///
    /// One of them had ended untold.
    pub(crate) async fn end(mut self) -> Result<(), String> {
        if let Ok(name) = self.ended.try_recv() {
            self.note(&name);
        }
        drop(self.go_on);
        let all = async { while self.ended.recv().await.is_some() {} };
        if timeout(END_MAX, all).await.is_err() {
            log::warn!("a thread did not end in time");
        }
        self.lost.map_or(Ok(()), Err)
    }

    fn note(&mut self, name: &str) {
        self.lost.get_or_insert_with(|| format!("the thread {name} has failed"));
    }
}

/// What a thread waits for when it has nothing else to do.
pub(crate) struct Until(watch::Receiver<()>);

impl Until {
    /// Completes when the thread is to end.
    pub(crate) async fn end(mut self) {
        // Nothing is ever sent, so this is the end of the sender.
        let _ = self.0.changed().await;
    }
}

/// Says that its thread has ended, in whichever way.
struct Ended {
    name: String,
    sender: mpsc::Sender<String>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        // There is room, or nobody who listens any more.
        let _ = self.sender.try_send(std::mem::take(&mut self.name));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn threads_go_on_until_they_are_told_and_drop_what_they_have() {
        let held = Arc::new(());
        let (began, mut begun) = mpsc::channel(3);
        let job = || {
            let (held, began) = (Arc::clone(&held), began.clone());
            async move |until: Until| {
                // A task that is never over by itself.
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                });
                began.send(std::thread::current().name().map(str::to_owned)).await.unwrap();
                until.end().await;
            }
        };
        let mut threads = Threads::start(vec![job(), job(), job()]).unwrap();
        let mut names = Vec::new();
        for _ in 0..3 {
            names.push(begun.recv().await.unwrap().unwrap());
        }
        names.sort();
        assert_eq!(names, ["podwire-1", "podwire-2", "podwire-3"]);
        assert_eq!(Arc::strong_count(&held), 4);
        let lost = timeout(Duration::from_millis(50), threads.lost()).await;
        assert!(lost.is_err(), "none is");
        assert_eq!(threads.end().await, Ok(()));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_told_by_its_name() {
        let (panics, told) = oneshot::channel::<()>();
        let jobs = [None, Some(told)].map(|told| {
            async move |until: Until| {
                if let Some(told) = told {
                    let _ = told.await;
                    panic!("a mistake");
                }
                until.end().await;
            }
        });
        let mut threads = Threads::start(jobs.into()).unwrap();
        panics.send(()).unwrap();
        timeout(END_MAX, threads.lost()).await.unwrap();
        assert_eq!(threads.end().await.unwrap_err(), "the thread podwire-2 has failed");
    }

    #[tokio::test]
    async fn a_panic_that_comes_last_is_told_as_well() {
        let threads = Threads::start(vec![async |_: Until| panic!("a mistake")]).unwrap();
        while threads.ended.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(threads.end().await.is_err());
    }

    #[tokio::test]
    async fn where_there_is_one_thread_none_is_lost() {
        let mut threads =
            Threads::start(Vec::<fn(Until) -> std::future::Ready<()>>::new()).unwrap();
        assert!(timeout(Duration::from_millis(50), threads.lost()).await.is_err());
        assert_eq!(threads.end().await, Ok(()));
    }
}

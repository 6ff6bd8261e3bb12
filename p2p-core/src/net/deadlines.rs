//! Waiting, but not for ever.
//!
//! Nearly everything that a node waits for comes long before its deadline. To set a timer and to clear it takes the
//! runtime's lock twice; to put off one that is set takes an atomic write. So timers that have done their part are
//! kept, and put off for the next who waits.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::time::{Instant, Sleep, sleep};

/// How many timers are kept while nobody needs them.
const KEPT: usize = 64;

type Timer = Pin<Box<Sleep>>;

/// A timer and the runtime that drives it: it serves nobody elsewhere.
type Kept = (runtime::Id, Timer);

/// The timers of one node's requests and streams, all of one runtime.
#[derive(Default)]
pub(super) struct Deadlines(Mutex<Vec<Kept>>);

/// It did not come in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLate;

impl Deadlines {
    /// A future's output, if it comes within `limit` of the first time it is found not to be ready.
    pub(super) fn within<F: Future + Unpin>(&self, limit: Duration, future: F) -> Within<'_, F> {
        Within { deadlines: self, limit, future, timer: None }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, limit: Duration) -> Kept {
        let here = Handle::current().id();
        let kept = self.kept().pop_if(|(runtime, _)| *runtime == here);
        match (kept, Instant::now().checked_add(limit)) {
            (Some((_, mut timer)), Some(deadline)) => {
                timer.as_mut().reset(deadline);
                (here, timer)
            }
            _ => (here, Box::pin(sleep(limit))),
        }
    }

    fn give_back(&self, timer: Kept) {
        let mut kept = self.kept();
        if kept.last().is_some_and(|(runtime, _)| *runtime != timer.0) {
            kept.clear();
        }
        if kept.len() < KEPT {
            kept.push(timer);
        }
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadlines({} timers kept)", self.kept().len())
    }
}

/// See [`Deadlines::within`].
pub(super) struct Within<'a, F> {
    deadlines: &'a Deadlines,
    limit: Duration,
    future: F,
    timer: Option<Kept>,
}

impl<F: Future + Unpin> Future for Within<'_, F> {
    type Output = Result<F::Output, TooLate>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Within { deadlines, limit, future, timer } = self.get_mut();
        if let Poll::Ready(output) = Pin::new(future).poll(cx) {
            return Poll::Ready(Ok(output));
        }
        timer.get_or_insert_with(|| deadlines.take(*limit)).1.as_mut().poll(cx).map(|()| Err(TooLate))
    }
}

impl<F> Drop for Within<'_, F> {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.deadlines.give_back(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_timer_serves_again_and_its_deadline_is_the_last_one_set() {
        let deadlines = Deadlines::default();
        let begin = Instant::now();
        for round in 1..=3 {
            assert_eq!(deadlines.within(LIMIT, pending::<()>()).await, Err(TooLate));
            assert_eq!(begin.elapsed().as_secs(), 30 * round);
        }
        assert_eq!(deadlines.kept().len(), 1);
        // Put off while it runs, and brought forward.
        let soon = pin!(sleep(Duration::from_secs(20)));
        assert_eq!(deadlines.within(LIMIT, soon).await, Ok(()));
        assert_eq!(deadlines.within(LIMIT, pending::<()>()).await, Err(TooLate));
        assert_eq!(begin.elapsed().as_secs(), 90 + 20 + 30);
        assert_eq!(deadlines.within(LIMIT / 3, pending::<()>()).await, Err(TooLate));
        assert_eq!(begin.elapsed().as_secs(), 150);
    }

    #[test]
    fn a_timer_of_another_runtime_is_not_used() {
        let deadlines = Deadlines::default();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let wait = || async { deadlines.within(Duration::from_millis(1), pending::<()>()).await };
        runtime().block_on(wait()).unwrap_err();
        let second = runtime();
        second.block_on(wait()).unwrap_err();
        assert_eq!(deadlines.kept().len(), 1, "the first one's is forgotten");
        assert_eq!(second.block_on(wait()), Err(TooLate), "and its own is used again");
    }

    #[tokio::test(start_paused = true)]
    async fn for_ever_is_long_enough() {
        let deadlines = Deadlines::default();
        for _ in 0..2 {
            let soon = pin!(sleep(LIMIT));
            assert_eq!(deadlines.within(Duration::MAX, soon).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_sets_no_timer_and_the_unused_are_bounded() {
        let deadlines = Deadlines::default();
        assert_eq!(deadlines.within(LIMIT, ready(1)).await, Ok(1));
        assert_eq!(deadlines.kept().len(), 0);
        let many = (0..KEPT + 10).map(|_| deadlines.within(LIMIT, pending::<()>()));
        futures::future::join_all(many).await;
        assert_eq!(deadlines.kept().len(), KEPT);
    }
}

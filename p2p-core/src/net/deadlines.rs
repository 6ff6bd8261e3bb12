//! Waiting, but not for ever.
//!
//! Nearly everything that a node waits for comes long before its deadline. To set a timer and to clear it takes the
//! runtime's lock twice; to put off one that is set takes an atomic write. So timers that have done their part are kept,
//! and put off for the next who waits.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// How many timers are kept while nobody needs them.
const KEPT: usize = 64;

type Timer = Pin<Box<Sleep>>;

/// The timers of one node's requests and streams.
#[derive(Default)]
pub(super) struct Deadlines(Mutex<Vec<Timer>>);

/// It did not come in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLate;

impl Deadlines {
    /// A future's output, if it comes within `limit` of the first time it is found not to be ready.
    pub(super) fn within<F: Future + Unpin>(&self, limit: Duration, future: F) -> Within<'_, F> {
        Within { deadlines: self, limit, future, timer: None }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Timer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, limit: Duration) -> Timer {
        let kept = self.kept().pop();
        match kept {
            Some(mut timer) => {
                timer.as_mut().reset(Instant::now() + limit);
                timer
            }
            None => Box::pin(sleep(limit)),
        }
    }

    fn give_back(&self, timer: Timer) {
        let mut kept = self.kept();
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
    timer: Option<Timer>,
}

impl<F: Future + Unpin> Future for Within<'_, F> {
    type Output = Result<F::Output, TooLate>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Within { deadlines, limit, future, timer } = self.get_mut();
        if let Poll::Ready(output) = Pin::new(future).poll(cx) {
            return Poll::Ready(Ok(output));
        }
        timer.get_or_insert_with(|| deadlines.take(*limit)).as_mut().poll(cx).map(|()| Err(TooLate))
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

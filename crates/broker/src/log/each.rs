//! Background work over all partitions, by a few threads where there are many of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Fewer items than this are one thread's work: most of them have nothing to do, and a thread costs more.
const ITEMS_A_THREAD: usize = 64;

/// Does `work` for each item, by so many threads at most, and returns when all is done. Blocks.
pub(crate) fn each<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) + Sync) {
    let helpers = threads.min(items.len().div_ceil(ITEMS_A_THREAD)).saturating_sub(1);
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            let helper = thread::Builder::new().name("broker-background".into());
            if let Err(error) = helper.spawn_scoped(scope, run) {
                tracing::warn!(%error, "no thread for the background: the others do its part");
                break;
            }
        }
        run();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn every_item_is_worked_on_once_by_as_many_threads_as_there_may_be() {
        for (items, threads, at_once) in [(0, 3, 0), (1, 3, 1), (64, 3, 1), (65, 3, 2), (200, 3, 3), (200, 1, 1)] {
            // The first items wait for each other: that they go on shows that they are with different threads.
            let barrier = Barrier::new(at_once.max(1));
            let done: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            let numbers: Vec<usize> = (0..items).collect();
            each(&numbers, threads, |&at| {
                if at < at_once {
                    barrier.wait();
                }
                done[at].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == 1), "{items} items, {threads} threads");
        }
    }
}

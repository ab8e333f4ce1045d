//! A few large transfers at once, each on a thread that ends with the call.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::error::{EngineError, Result};

/// `f` of each item, on at most `threads` threads. After the first failure no other item is begun.
pub(crate) fn for_each<T: Sync>(threads: usize, items: &[T], f: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().try_for_each(f);
    }
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<EngineError>> = Mutex::new(None);
    let work = || {
        while failure.lock().is_none()
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if let Err(error) = f(item) {
                failure.lock().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            #[expect(clippy::disallowed_methods, reason = "joined by the scope")]
            scope.spawn(work);
        }
    });
    match failure.into_inner() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_taken_once() {
        for threads in [1, 3, 64] {
            let counts: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
            let items: Vec<usize> = (0..50).collect();
            for_each(threads, &items, |n| {
                counts[*n].fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .unwrap();
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads");
        }
    }

    #[test]
    fn a_failure_is_given_and_begins_nothing_more() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let error = for_each(4, &items, |n| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err(EngineError::data(format!("item {n}")))
        })
        .unwrap_err();
        assert!(error.to_string().starts_with("item "), "{error}");
        assert!(begun.load(Ordering::Relaxed) <= 4);
    }
}

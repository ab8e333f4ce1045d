//! How the C library hands out memory to many threads: few arenas, so that what is free is found again.
//!
//! glibc makes up to eight arenas a core, and gives what one of them has free to no other. Batches run on threads of their
//! own, and RocksDB has its own too: the same memory was asked for in one arena after the other, and a state of 64 MiB
//! took 150 MiB. With an arena a core it takes what it is given. Other C libraries are left alone.

/// Bounds the arenas; to be called before there are threads. `MALLOC_ARENA_MAX` wins.
pub(crate) fn bound_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        glibc::set_arena_max(i32::try_from(cores.clamp(2, 16)).unwrap_or(2));
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    /// `M_ARENA_MAX` of `malloc.h`.
    const ARENA_MAX: i32 = -8;

    #[expect(unsafe_code, reason = "a function of the C library; it takes two numbers and touches nothing of ours")]
    pub(super) fn set_arena_max(arenas: i32) {
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: mallopt may be called at any time from any thread, and refuses what it does not know with 0.
        if unsafe { mallopt(ARENA_MAX, arenas) } == 0 {
            tracing::debug!(arenas, "the number of malloc's arenas was not bounded");
        }
    }
}

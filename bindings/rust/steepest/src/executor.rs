// SPDX-License-Identifier: Apache-2.0
use std::os::raw::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use steepest_sys as sys;

/// A thread pool of your own, in place of the library's (oneTBB).
///
/// An implementation only runs jobs; which work a job does is this crate's matter, and so is what
/// the C interface asks of an executor. Whatever an implementation does within safe Rust, each
/// piece of work is done once and never by two threads in one worker's place: jobs that are run
/// twice do nothing the second time, and what jobs that are not run leave over is done by the
/// calling thread. A panic makes the call fail with
/// [`ErrorKind::Internal`](crate::ErrorKind::Internal).
///
/// ```
/// /// New threads for each call: simple, and slow for small tensors.
/// struct Scoped(usize);
///
/// impl steepest::Executor for Scoped {
///     fn concurrency(&self) -> usize {
///         self.0
///     }
///     fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|scope| {
///             for i in 1..jobs {
///                 scope.spawn(move || job(i));
///             }
///             job(0);
///         });
///     }
/// }
///
/// let context = steepest::Context::builder().executor(Scoped(3)).build()?;
/// assert_eq!(context.threads(), 3);
/// # Ok::<(), steepest::Error>(())
/// ```
///
/// With rayon: `concurrency` is `pool.current_num_threads()`, and `run`
/// `pool.install(|| (0..jobs).into_par_iter().for_each(job))`.
pub trait Executor: Send + Sync + 'static {
    /// How many threads a call may use; asked once, when the context is made.
    fn concurrency(&self) -> usize;

    /// Runs `job(i)` for each i in 0..jobs, with jobs ≤ `concurrency()`, on several threads if it
    /// can, and returns when all are done. Called from any thread that calls the library.
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync));
}

/// What `user` of the C struct points to.
pub(crate) struct Adapter {
    executor: Box<dyn Executor>,
    concurrency: i32,
}

impl Adapter {
    pub(crate) fn new(executor: Box<dyn Executor>) -> Box<Adapter> {
        let concurrency = executor.concurrency().max(1);
        Box::new(Adapter { executor, concurrency: i32::try_from(concurrency).unwrap_or(i32::MAX) })
    }

    pub(crate) fn interface(&self) -> sys::steepest_executor {
        sys::steepest_executor {
            user: (self as *const Adapter as *mut Adapter).cast(),
            concurrency: Some(concurrency),
            parallel_for: Some(parallel_for),
            ..sys::STEEPEST_EXECUTOR_INIT
        }
    }
}

unsafe extern "C" fn concurrency(user: *mut c_void) -> i32 {
    (*user.cast::<Adapter>()).concurrency
}

/// The loop body of a call and its argument, which threads may share: that is what they are for.
struct Body(unsafe extern "C" fn(*mut c_void, i64, i32), *mut c_void);
unsafe impl Sync for Body {}

impl Body {
    fn call(&self, task: i64, worker: i32) {
        unsafe { (self.0)(self.1, task, worker) }
    }
}

unsafe extern "C" fn parallel_for(
    user: *mut c_void,
    tasks: i64,
    body: sys::steepest_task,
    arg: *mut c_void,
) -> sys::steepest_status {
    let adapter = &*user.cast::<Adapter>();
    let body = match body {
        Some(function) => Body(function, arg),
        None => return sys::STEEPEST_E_INTERNAL,
    };
    let jobs = i64::from(adapter.concurrency).min(tasks).max(1) as usize;
    let next = AtomicI64::new(0);
    let work = |worker: i32| loop {
        let task = next.fetch_add(1, Ordering::Relaxed);
        if task >= tasks {
            break;
        }
        body.call(task, worker);
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        let taken: Vec<AtomicBool> = (0..jobs).map(|_| AtomicBool::new(false)).collect();
        adapter.executor.run(jobs, &|job| {
            // A job belongs to the first who runs it.
            if job < jobs && !taken[job].swap(true, Ordering::AcqRel) {
                work(job as i32);
            }
        });
    }));
    match result {
        Ok(()) => {
            work(0); // what was left over; every job has returned
            sys::STEEPEST_OK
        }
        Err(_) => sys::STEEPEST_E_INTERNAL,
    }
}

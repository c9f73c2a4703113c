// SPDX-License-Identifier: Apache-2.0
use std::fmt;
use std::ptr::{null, null_mut, NonNull};

use steepest_sys as sys;

use crate::error::check;
use crate::{allocator, executor};
use crate::{Allocator, Error, ErrorKind, Executor, Result};

/// An instruction-set level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Isa {
    /// The best that this CPU has.
    Auto = sys::STEEPEST_ISA_AUTO,
    /// The compiler's baseline.
    Generic = sys::STEEPEST_ISA_GENERIC,
    X86Avx2 = sys::STEEPEST_ISA_X86_AVX2,
    X86Avx512 = sys::STEEPEST_ISA_X86_AVX512,
    X86Avx512Bf16 = sys::STEEPEST_ISA_X86_AVX512_BF16,
    Arm64Neon = sys::STEEPEST_ISA_ARM64_NEON,
}

/// The choice of instruction-set level, threads and scratch memory. One for the whole program is
/// enough: threads may share it. [`Context::default`] is the process-wide one.
///
/// ```
/// use steepest::{Context, Isa};
///
/// let context = Context::builder().num_threads(1).max_isa(Isa::Generic).build()?;
/// assert_eq!((context.isa()?, context.threads()), (Isa::Generic, 1));
/// # Ok::<(), steepest::Error>(())
/// ```
///
/// `STEEPEST_MAX_ISA` and `STEEPEST_NUM_THREADS` in the environment lower the defaults.
#[derive(Default)]
pub struct Context {
    handle: Option<NonNull<sys::steepest_context>>,
    // What the library's copies of these point to; dropped after the context.
    _executor: Option<Box<executor::Adapter>>,
    _allocator: Option<Box<allocator::Adapter>>,
}

// The library allows calls from several threads at once with one context, and executors and
// allocators are Send and Sync.
unsafe impl Send for Context {}
unsafe impl Sync for Context {}

impl Context {
    /// A new context with default options.
    pub fn new() -> Result<Context> {
        Context::builder().build()
    }

    pub fn builder() -> ContextBuilder {
        ContextBuilder {
            options: sys::STEEPEST_CONTEXT_OPTIONS_INIT,
            executor: None,
            allocator: None,
        }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut sys::steepest_context {
        self.handle.map_or(null_mut(), NonNull::as_ptr)
    }

    /// The level in use.
    pub fn isa(&self) -> Result<Isa> {
        match unsafe { sys::steepest_context_isa(self.as_ptr()) } {
            sys::STEEPEST_ISA_GENERIC => Ok(Isa::Generic),
            sys::STEEPEST_ISA_X86_AVX2 => Ok(Isa::X86Avx2),
            sys::STEEPEST_ISA_X86_AVX512 => Ok(Isa::X86Avx512),
            sys::STEEPEST_ISA_X86_AVX512_BF16 => Ok(Isa::X86Avx512Bf16),
            sys::STEEPEST_ISA_ARM64_NEON => Ok(Isa::Arm64Neon),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("context: there is none, or its level {} is not known here", other),
            )),
        }
    }

    /// How many threads a call may use; 0 if the default context cannot be made.
    pub fn threads(&self) -> usize {
        let threads = unsafe { sys::steepest_context_threads(self.as_ptr()) };
        usize::try_from(threads).unwrap_or(0)
    }

    /// Frees the scratch memory that no running call is using.
    pub fn trim(&self) -> Result<()> {
        check(unsafe { sys::steepest_context_trim(self.as_ptr()) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Null, for the default context, does nothing. No call is running: they borrow the context.
        unsafe { sys::steepest_context_destroy(self.as_ptr()) }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl fmt::Debug for ContextBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The options of a context, as `steepest_context_options` has them.
pub struct ContextBuilder {
    options: sys::steepest_context_options,
    executor: Option<Box<dyn Executor>>,
    allocator: Option<Box<allocator::Adapter>>,
}

impl ContextBuilder {
    /// 0: the cores that this process may use; 1: the calling thread only.
    pub fn num_threads(mut self, threads: usize) -> Self {
        self.options.num_threads = i32::try_from(threads).unwrap_or(i32::MAX);
        self
    }

    /// The highest level to use.
    pub fn max_isa(mut self, isa: Isa) -> Self {
        self.options.max_isa = isa as i32;
        self
    }

    /// The same bits on every instruction-set level, in all calls with this context.
    pub fn consistent(mut self, on: bool) -> Self {
        crate::set_flag(&mut self.options.flags, sys::STEEPEST_FLAG_CONSISTENT, on);
        self
    }

    /// msign's products and inverses by OpenBLAS and LAPACK, for comparison.
    pub fn openblas(mut self, on: bool) -> Self {
        crate::set_flag(&mut self.options.flags, sys::STEEPEST_CONTEXT_OPENBLAS, on);
        self
    }

    /// Threads of your own; `num_threads` must then be 0.
    pub fn executor(mut self, executor: impl Executor) -> Self {
        self.executor = Some(Box::new(executor));
        self
    }

    /// Memory of your own, in place of the C library's.
    pub fn allocator(mut self, allocator: impl Allocator) -> Self {
        self.allocator = Some(allocator::Adapter::new(allocator));
        self
    }

    pub fn build(self) -> Result<Context> {
        let mut options = self.options;
        let executor = self.executor.map(executor::Adapter::new);
        let threads = executor.as_ref().map(|adapter| adapter.interface());
        options.executor = threads.as_ref().map_or(null(), |interface| interface);
        let memory = self.allocator.as_ref().map(|adapter| adapter.interface());
        options.allocator = memory.as_ref().map_or(null(), |interface| interface);
        let mut handle = null_mut();
        check(unsafe { sys::steepest_context_create(&options, &mut handle) })?;
        let handle = NonNull::new(handle);
        Ok(Context { handle, _executor: executor, _allocator: self.allocator })
    }
}

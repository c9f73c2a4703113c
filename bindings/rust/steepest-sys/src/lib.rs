// SPDX-License-Identifier: Apache-2.0
//! Raw bindings of Steepest, optimizer-step kernels for CPUs: the C header `steepest/steepest.h` in
//! Rust, names unchanged. The header is the documentation; the crate `steepest` is the safe
//! interface.
//!
//! Checked in as it is, with a test that compares every offset, size, constant and INIT value with
//! what a C compiler makes of the header. `build.rs` says how the library is found.
//!
//! ```
//! use std::ptr::null_mut;
//! use steepest_sys::*;
//!
//! let (mut w, g, mut m, mut v) = ([1.0f32; 4], [0.5f32; 4], [0.0f32; 4], [0.0f32; 4]);
//! let config = steepest_adamw_config { lr: 0.1, ..STEEPEST_ADAMW_CONFIG_INIT };
//! let tensor = steepest_adamw_tensor {
//!     count: 4,
//!     param: w.as_mut_ptr().cast(),
//!     grad: g.as_ptr().cast(),
//!     exp_avg: m.as_mut_ptr().cast(),
//!     exp_avg_sq: v.as_mut_ptr().cast(),
//!     ..STEEPEST_ADAMW_TENSOR_INIT
//! };
//! let status = unsafe { steepest_adamw_step(null_mut(), &config, &tensor, 1, null_mut()) };
//! assert_eq!(status, STEEPEST_OK);
//! assert!((w[0] - 0.899).abs() < 1e-6); // 1 - 0.1 (1 + 0.01)
//! ```
#![allow(non_camel_case_types)]

mod constants;
mod functions;
mod structs;

pub use constants::*;
pub use functions::*;
pub use structs::*;

pub type steepest_status = i32;
pub type steepest_dtype = i32;
pub type steepest_isa = i32;

/// Opaque; made by [`steepest_adamw_begin`].
#[repr(C)]
pub struct steepest_adamw_plan {
    _private: [u8; 0],
    _not_send_or_sync: std::marker::PhantomData<*mut u8>,
}

/// Opaque; made by [`steepest_context_create`].
#[repr(C)]
pub struct steepest_context {
    _private: [u8; 0],
    _not_send_or_sync: std::marker::PhantomData<*mut u8>,
}

// SPDX-License-Identifier: Apache-2.0
//! Optimizer-step kernels for CPUs: AdamW, Muon and the matrix sign behind it, learning-rate
//! schedules and diagnostics, on slices in place. The safe interface of the C library Steepest.
//!
//! [`optim::AdamW`] and [`optim::Muon`] own their state and can be saved:
//!
//! ```
//! use steepest::{optim, AdamWConfig, Context};
//!
//! let context = Context::new()?;
//! let (mut w, mut b) = (vec![1.0f32; 6], vec![0.0f32; 2]);
//! let mut optimizer = optim::AdamW::<f32>::new(AdamWConfig::new().lr(0.1), &[w.len(), b.len()])?;
//! let (grad_w, grad_b) = (vec![0.5f32; 6], vec![-0.5f32; 2]);
//! optimizer.step(&context, &mut [&mut w, &mut b], &[&grad_w, &grad_b])?;
//! assert!((b[0] - 0.1).abs() < 1e-6);
//! # Ok::<(), steepest::Error>(())
//! ```
//!
//! [`adamw_step`], [`muon_step`] and [`msign`] are the C functions, for state that you own: lists
//! of tensors in one call, parameter groups, any mix of [`f32`], [`Bf16`] and [`F16`], or [`f64`].
//!
//! Names are those of the C header, which also has the formulas, accuracy and storage advice. Where
//! a function takes an optional number of steps, 0 means what it does there. Errors carry the
//! library's text. Results do not depend on the number of threads.
#![warn(missing_debug_implementations)]
#![allow(clippy::unnecessary_cast)]

mod adamw;
mod allocator;
mod context;
mod diagnostics;
mod dtype;
mod error;
mod executor;
mod matrix;
mod msign;
mod muon;
mod narrow;
pub mod optim;
mod schedule;
mod stats;
mod workspace;

pub use adamw::{adamw_step, adamw_step_with_stats, AdamWConfig, AdamWTensor};
pub use allocator::Allocator;
pub use context::{Context, ContextBuilder, Isa};
pub use diagnostics::{
    adam_update_rms, adam_update_rms_second_order, grad_norm, rms, singular_entropy,
    singular_values, snr_from_momentum, snr_from_update_rms, spectral_norm, spectral_norm_bounds,
    GradNorm, Vector,
};
pub use dtype::{Bf16, Dtype, F16};
pub use error::{Error, ErrorKind, Result};
pub use executor::Executor;
pub use matrix::{MatrixMut, MatrixRef};
pub use msign::{
    msign, msign_band, msign_batched, msign_batched_with_workspace, msign_coefficients,
    msign_in_place, msign_with_stats, msign_with_workspace, msign_workspace_size, Coefficients,
    ComputeDtype, Method, MsignConfig, MsignStats, Normalization,
};
pub use muon::{
    muon_step, muon_step_with_stats, muon_step_with_workspace, muon_workspace_size, scale_factor,
    BlockAxis, MomentumKind, MuonConfig, MuonTensor, ScaleMode,
};
pub use narrow::{q8_decode, q8_encode, q8_scales, Residual, State, Q8};
pub use schedule::{
    schedule_bound, schedule_optimal, schedule_refine, DecayShape, GradNorms, RefineKind, Schedule,
    ScheduleKind,
};
pub use stats::{Outcome, StepStats};
pub use workspace::Workspace;

/// The C interface, under its own names.
pub use steepest_sys as sys;

/// The release of the library that is loaded: (major, minor, patch).
pub fn version() -> (u32, u32, u32) {
    let version = unsafe { sys::steepest_version() };
    (version >> 16, version >> 8 & 0xff, version & 0xff)
}

/// One line about the library that is loaded: compiler, levels, versions of what it uses.
pub fn build_info() -> &'static str {
    unsafe { std::ffi::CStr::from_ptr(sys::steepest_build_info()) }.to_str().unwrap_or("")
}

fn set_flag(flags: &mut u64, flag: u64, on: bool) {
    if on {
        *flags |= flag;
    } else {
        *flags &= !flag;
    }
}

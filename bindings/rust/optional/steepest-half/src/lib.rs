// SPDX-License-Identifier: Apache-2.0
//! Slices of [`half::bf16`] and [`half::f16`] as slices of [`steepest::Bf16`] and
//! [`steepest::F16`], without a copy.
//!
//! ```
//! use steepest::{adamw_step, AdamWConfig, AdamWTensor, Context};
//! use steepest_half::{AsSteepest, AsSteepestMut};
//!
//! let mut w = vec![half::bf16::from_f32(1.0); 4];
//! let g = vec![half::bf16::from_f32(0.5); 4];
//! let (mut m, mut v) = (vec![0f32; 4], vec![0f32; 4]);
//! let tensor =
//!     AdamWTensor::new(w.as_steepest_mut(), g.as_steepest(), &mut m, &mut v)?;
//! adamw_step(&Context::default(), &AdamWConfig::new().lr(0.5), &mut [tensor])?;
//! assert_eq!(w[0].to_f32(), 0.494140625);
//! # Ok::<(), steepest::Error>(())
//! ```
use std::slice;

/// A view to read.
pub trait AsSteepest {
    type Element: steepest::Dtype;
    fn as_steepest(&self) -> &[Self::Element];
}

/// A view to write.
pub trait AsSteepestMut: AsSteepest {
    fn as_steepest_mut(&mut self) -> &mut [Self::Element];
}

macro_rules! view {
    ($theirs:ty, $ours:ty) => {
        impl AsSteepest for [$theirs] {
            type Element = $ours;
            fn as_steepest(&self) -> &[$ours] {
                // Both are transparent over u16, and every bit pattern is a value of both.
                unsafe { slice::from_raw_parts(self.as_ptr().cast(), self.len()) }
            }
        }
        impl AsSteepestMut for [$theirs] {
            fn as_steepest_mut(&mut self) -> &mut [$ours] {
                unsafe { slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len()) }
            }
        }
    };
}

view!(half::bf16, steepest::Bf16);
view!(half::f16, steepest::F16);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_pattern_is_the_same_number() {
        let f16: Vec<_> = (0..=u16::MAX).map(half::f16::from_bits).collect();
        let bf16: Vec<_> = (0..=u16::MAX).map(half::bf16::from_bits).collect();
        for (theirs, ours) in f16.iter().zip(f16.as_steepest()) {
            assert_eq!(theirs.to_bits(), ours.to_bits());
            assert!(theirs.to_f32() == ours.to_f32() || theirs.is_nan());
        }
        for (theirs, ours) in bf16.iter().zip(bf16.as_steepest()) {
            assert_eq!(theirs.to_bits(), ours.to_bits());
            assert!(theirs.to_f32() == ours.to_f32() || theirs.is_nan());
        }
        let mut written = f16;
        written.as_steepest_mut()[0] = steepest::F16::from_f32(1.0);
        assert_eq!(written[0].to_f32(), 1.0);
    }
}

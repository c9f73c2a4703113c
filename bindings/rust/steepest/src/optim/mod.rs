// SPDX-License-Identifier: Apache-2.0
//! Optimizers that own their state, and can be saved and loaded.
//!
//! The state is kept in `S`: f32 for parameters in f32, [`Bf16`](crate::Bf16) or
//! [`F16`](crate::F16), f64 for f64. `to_bytes` gives a versioned form, the same on every platform,
//! with a checksum; `from_bytes` refuses what is not exactly that.

mod adamw;
mod bytes;
mod muon;

pub use adamw::AdamW;
pub use muon::{Muon, MuonShape};

use crate::{Dtype, Error, Result};

/// As many params and grads as there is state for.
fn check_counts(optimizer: &str, params: usize, grads: usize, state: usize) -> Result<()> {
    if params == state && grads == state {
        return Ok(());
    }
    Error::shape(format!(
        "optim::{}: {} params and {} grads for the state of {} tensors",
        optimizer, params, grads, state
    ))
}

/// Element types of optimizer state: f32 and f64.
pub trait State: Dtype {
    #[doc(hidden)]
    fn to_bits(self) -> u64;
    #[doc(hidden)]
    fn from_bits(bits: u64) -> Self;
}

impl State for f32 {
    fn to_bits(self) -> u64 {
        u64::from(f32::to_bits(self))
    }
    fn from_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
}

impl State for f64 {
    fn to_bits(self) -> u64 {
        f64::to_bits(self)
    }
    fn from_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The trait of candle-nn 0.9, signature by signature.
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

pub trait Optimizer: Sized {
    type Config: Sized;

    fn new(vars: Vec<Var>, config: Self::Config) -> Result<Self>;
    fn step(&mut self, grads: &GradStore) -> Result<()>;
    fn learning_rate(&self) -> f64;
    fn set_learning_rate(&mut self, lr: f64);

    fn empty(config: Self::Config) -> Result<Self> {
        Self::new(Vec::new(), config)
    }
    fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        self.step(&loss.backward()?)
    }
    fn from_slice(vars: &[&Var], config: Self::Config) -> Result<Self> {
        Self::new(vars.iter().map(|var| Var::clone(var)).collect(), config)
    }
}

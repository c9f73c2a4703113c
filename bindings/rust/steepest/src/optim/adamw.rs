// SPDX-License-Identifier: Apache-2.0
use steepest_sys as sys;

use super::bytes::{Kind, Reader, Writer};
use super::{check_counts, State};
use crate::{
    adamw_step_with_stats, AdamWConfig, AdamWTensor, Context, Dtype, Error, Outcome, Result,
    StepStats,
};

/// AdamW with its state: first and second moment of each tensor, and the number of steps.
///
/// ```
/// use steepest::{optim::AdamW, AdamWConfig, Context};
///
/// let context = Context::default();
/// let mut w = vec![1.0f32, -2.0];
/// let mut optimizer = AdamW::<f32>::new(AdamWConfig::new().lr(0.01), &[2])?;
/// optimizer.step(&context, &mut [&mut w], &[&[0.1f32, 0.3]])?;
/// let saved = optimizer.to_bytes();
///
/// let mut again = AdamW::<f32>::from_bytes(&saved)?;
/// assert_eq!(again.steps(), 1);
/// again.set_lr(0.005);
/// again.step(&context, &mut [&mut w], &[&[0.1f32, 0.3]])?;
/// # Ok::<(), steepest::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdamW<S: State = f32> {
    config: AdamWConfig,
    steps: i64,
    moments: Vec<Moments<S>>,
}

#[derive(Clone, Debug)]
struct Moments<S> {
    exp_avg: Vec<S>,
    exp_avg_sq: Vec<S>,
    max_exp_avg_sq: Vec<S>, // empty without amsgrad
}

impl<S: State> AdamW<S> {
    /// For tensors of these sizes. The config's `step` is the optimizer's own business.
    pub fn new(config: AdamWConfig, sizes: &[usize]) -> Result<Self> {
        if config.0.flags & sys::STEEPEST_ADAMW_EMIT_DELTA != 0 {
            return Error::invalid("optim::AdamW: emit_delta is for adamw_step");
        }
        let amsgrad = config.0.flags & sys::STEEPEST_ADAMW_AMSGRAD != 0;
        let zeros = |size: usize| vec![S::default(); size];
        let moments = sizes.iter().map(|&size| Moments {
            exp_avg: zeros(size),
            exp_avg_sq: zeros(size),
            max_exp_avg_sq: zeros(if amsgrad { size } else { 0 }),
        });
        Ok(AdamW { config, steps: 0, moments: moments.collect() })
    }

    /// One step. If it fails, or is skipped, it does not count, and nothing has changed.
    pub fn step<P: Dtype, G: Dtype>(
        &mut self,
        context: &Context,
        params: &mut [&mut [P]],
        grads: &[&[G]],
    ) -> Result<Outcome> {
        self.step_with_stats(context, params, grads, None)
    }

    /// The same, and what it did to each tensor.
    pub fn step_with_stats<P: Dtype, G: Dtype>(
        &mut self,
        context: &Context,
        params: &mut [&mut [P]],
        grads: &[&[G]],
        stats: Option<&mut [StepStats]>,
    ) -> Result<Outcome> {
        check_counts("AdamW", params.len(), grads.len(), self.moments.len())?;
        let amsgrad = self.config.0.flags & sys::STEEPEST_ADAMW_AMSGRAD != 0;
        let mut tensors = Vec::with_capacity(params.len());
        for ((param, grad), moments) in params.iter_mut().zip(grads).zip(&mut self.moments) {
            let (m, v) = (&mut moments.exp_avg[..], &mut moments.exp_avg_sq[..]);
            let mut tensor = AdamWTensor::new(param, grad, m, v)?;
            if amsgrad {
                tensor = tensor.max_exp_avg_sq(&mut moments.max_exp_avg_sq)?;
            }
            tensors.push(tensor);
        }
        let config = self.config.step(self.steps + 1);
        let outcome = adamw_step_with_stats(context, &config, &mut tensors, stats)?;
        if outcome == Outcome::Done {
            self.steps += 1;
        }
        Ok(outcome)
    }

    /// How many steps were made.
    pub fn steps(&self) -> i64 {
        self.steps
    }

    pub fn config(&self) -> &AdamWConfig {
        &self.config
    }

    /// The learning rate of the next step, as a schedule gives it.
    pub fn set_lr(&mut self, lr: f64) {
        self.config = self.config.lr(lr);
    }

    /// The factor of the next gradients: unscaling and clipping.
    pub fn set_grad_scale(&mut self, grad_scale: f64) {
        self.config = self.config.grad_scale(grad_scale);
    }

    /// First and second moment of a tensor.
    pub fn moments(&self, tensor: usize) -> Option<(&[S], &[S])> {
        self.moments.get(tensor).map(|x| (&x.exp_avg[..], &x.exp_avg_sq[..]))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new::<S>(Kind::AdamW);
        let config = &self.config.0;
        writer.u64(config.flags);
        for value in [config.lr, config.beta1, config.beta2, config.eps, config.weight_decay] {
            writer.f64(value);
        }
        writer.f64(config.grad_scale);
        writer.i64(self.steps);
        writer.u64(self.moments.len() as u64);
        for moments in &self.moments {
            writer.state(&moments.exp_avg);
            writer.state(&moments.exp_avg_sq);
            writer.state(&moments.max_exp_avg_sq);
        }
        writer.finish()
    }

    /// Everything as it was saved, hyper-parameters included.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new::<S>(bytes, Kind::AdamW)?;
        let mut config = AdamWConfig::new();
        let raw = &mut config.0;
        raw.flags = reader.u64()?;
        for field in [
            &mut raw.lr,
            &mut raw.beta1,
            &mut raw.beta2,
            &mut raw.eps,
            &mut raw.weight_decay,
            &mut raw.grad_scale,
        ] {
            *field = reader.f64()?;
        }
        let steps = reader.i64()?;
        let amsgrad = raw.flags & sys::STEEPEST_ADAMW_AMSGRAD != 0;
        let emits = raw.flags & sys::STEEPEST_ADAMW_EMIT_DELTA != 0;
        let mut moments = Vec::new();
        for _ in 0..reader.count()? {
            let one = Moments {
                exp_avg: reader.state()?,
                exp_avg_sq: reader.state()?,
                max_exp_avg_sq: reader.state()?,
            };
            let size = one.exp_avg.len();
            let largest = if amsgrad { size } else { 0 };
            if one.exp_avg_sq.len() != size || one.max_exp_avg_sq.len() != largest {
                return Error::shape("from_bytes: moments of different sizes");
            }
            moments.push(one);
        }
        reader.finish()?;
        if !(0..i64::MAX).contains(&steps) || emits {
            return Error::invalid("from_bytes: a value is out of its range");
        }
        Ok(AdamW { config, steps, moments })
    }
}

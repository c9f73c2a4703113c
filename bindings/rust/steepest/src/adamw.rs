// SPDX-License-Identifier: Apache-2.0
use std::marker::PhantomData;

use steepest_sys as sys;

use crate::error::{check, size};
use crate::set_flag;
use crate::stats::stats_pointer;
use crate::{Context, Dtype, Error, Outcome, Residual, Result, State, StepStats};

/// The hyper-parameters of [`adamw_step`], as `steepest_adamw_config` has them.
///
/// ```
/// let config = steepest::AdamWConfig::new().lr(3e-4).weight_decay(0.1).amsgrad(true);
/// assert_eq!(config.get_lr(), 3e-4);
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct AdamWConfig(pub(crate) sys::steepest_adamw_config);

// The only pointer in it, `skipped`, is null except in a copy within a call.
unsafe impl Send for AdamWConfig {}
unsafe impl Sync for AdamWConfig {}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig(sys::STEEPEST_ADAMW_CONFIG_INIT)
    }
}

impl AdamWConfig {
    /// lr 1e-3, betas 0.9 and 0.999, eps 1e-8, weight decay 1e-2, step 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// ≥ 0
    pub fn lr(mut self, lr: f64) -> Self {
        self.0.lr = lr;
        self
    }

    /// In [0, 1).
    pub fn beta1(mut self, beta1: f64) -> Self {
        self.0.beta1 = beta1;
        self
    }

    /// In [0, 1).
    pub fn beta2(mut self, beta2: f64) -> Self {
        self.0.beta2 = beta2;
        self
    }

    /// ≥ 0, added outside the root, after bias correction.
    pub fn eps(mut self, eps: f64) -> Self {
        self.0.eps = eps;
        self
    }

    /// ≥ 0; decoupled: param −= lr · weight_decay · param.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.0.weight_decay = weight_decay;
        self
    }

    /// Every gradient is multiplied by it first: unscaling and clipping as one factor.
    pub fn grad_scale(mut self, grad_scale: f64) -> Self {
        self.0.grad_scale = grad_scale;
        self
    }

    /// The number of this step, from 1.
    pub fn step(mut self, step: i64) -> Self {
        self.0.step = step;
        self
    }

    /// The update's denominator has the largest v yet.
    pub fn amsgrad(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_ADAMW_AMSGRAD, on)
    }

    pub fn maximize(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_ADAMW_MAXIMIZE, on)
    }

    /// g += weight_decay · param, and no other decay: Adam with L2 regularisation.
    pub fn coupled_l2(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_ADAMW_COUPLED_L2, on)
    }

    /// Decay only where the update and the parameter have the same sign (arXiv 2510.12402).
    pub fn cautious_decay(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_ADAMW_CAUTIOUS_DECAY, on)
    }

    /// If an element of a gradient is NaN or infinite, nothing is updated.
    pub fn skip_nonfinite(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_ADAMW_SKIP_NONFINITE, on)
    }

    /// The update goes to each tensor's `delta`; parameters are only read.
    pub fn emit_delta(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_ADAMW_EMIT_DELTA, on)
    }

    /// Round to bf16 and 8 bits by random bits: see "stochastic rounding" in steepest.h.
    pub fn stochastic_rounding(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_ADAMW_STOCHASTIC_ROUNDING, on)
    }

    /// Of `stochastic_rounding`.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// The same bits on every instruction-set level.
    pub fn consistent(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_FLAG_CONSISTENT, on)
    }

    fn flag(mut self, flag: u64, on: bool) -> Self {
        set_flag(&mut self.0.flags, flag, on);
        self
    }

    pub fn get_lr(&self) -> f64 {
        self.0.lr
    }

    pub fn get_step(&self) -> i64 {
        self.0.step
    }
}

/// The buffers of one tensor, of the same length each.
#[repr(transparent)]
#[derive(Debug)]
pub struct AdamWTensor<'a>(sys::steepest_adamw_tensor, PhantomData<&'a mut u8>);

impl<'a> AdamWTensor<'a> {
    /// Element types: any mix of f32, `Bf16` and `F16`, or all f64. The moments are zeros before
    /// step 1.
    #[inline]
    pub fn new<P: Dtype, G: Dtype, M: Dtype, V: Dtype>(
        param: &'a mut [P],
        grad: &'a [G],
        exp_avg: &'a mut [M],
        exp_avg_sq: &'a mut [V],
    ) -> Result<Self> {
        let count = param.len();
        same_length("grad", grad.len(), count)?;
        same_length("exp_avg", exp_avg.len(), count)?;
        same_length("exp_avg_sq", exp_avg_sq.len(), count)?;
        let tensor = sys::steepest_adamw_tensor {
            count: size(count),
            param: param.as_mut_ptr().cast(),
            grad: grad.as_ptr().cast(),
            exp_avg: exp_avg.as_mut_ptr().cast(),
            exp_avg_sq: exp_avg_sq.as_mut_ptr().cast(),
            param_dtype: P::DTYPE,
            grad_dtype: G::DTYPE,
            exp_avg_dtype: M::DTYPE,
            exp_avg_sq_dtype: V::DTYPE,
            ..sys::STEEPEST_ADAMW_TENSOR_INIT
        };
        Ok(AdamWTensor(tensor, PhantomData))
    }

    /// For `emit_delta`: new − old parameters are written to `delta`.
    pub fn emit_delta<P: Dtype, G: Dtype, M: Dtype, V: Dtype, D: Dtype>(
        param: &'a [P],
        grad: &'a [G],
        exp_avg: &'a mut [M],
        exp_avg_sq: &'a mut [V],
        delta: &'a mut [D],
    ) -> Result<Self> {
        same_length("delta", delta.len(), param.len())?;
        let mut tensor = Self::new::<P, G, M, V>(&mut [], &[], &mut [], &mut [])?;
        same_length("grad", grad.len(), param.len())?;
        same_length("exp_avg", exp_avg.len(), param.len())?;
        same_length("exp_avg_sq", exp_avg_sq.len(), param.len())?;
        tensor.0.count = size(param.len());
        // Only read: a step refuses a tensor with a delta if it would write the parameters.
        tensor.0.param = param.as_ptr() as *mut P as *mut _;
        tensor.0.grad = grad.as_ptr().cast();
        tensor.0.exp_avg = exp_avg.as_mut_ptr().cast();
        tensor.0.exp_avg_sq = exp_avg_sq.as_mut_ptr().cast();
        tensor.0.delta = delta.as_mut_ptr().cast();
        tensor.0.delta_dtype = D::DTYPE;
        Ok(tensor)
    }

    /// For `amsgrad`: the largest v yet, of the type of exp_avg_sq; zeros before step 1.
    pub fn max_exp_avg_sq<V: Dtype>(mut self, buffer: &'a mut [V]) -> Result<Self> {
        same_length("max_exp_avg_sq", buffer.len(), self.0.count as usize)?;
        if V::DTYPE != self.0.exp_avg_sq_dtype {
            return Error::invalid("adamw_step: max_exp_avg_sq must have the type of exp_avg_sq");
        }
        self.0.max_exp_avg_sq = buffer.as_mut_ptr().cast();
        Ok(self)
    }

    /// Moments in any storage type, 8-bit ones too.
    pub fn with_states<P: Dtype, G: Dtype>(
        param: &'a mut [P],
        grad: &'a [G],
        exp_avg: State<'a>,
        exp_avg_sq: State<'a>,
    ) -> Result<Self> {
        let count = param.len();
        same_length("grad", grad.len(), count)?;
        let (m_len, m, m_dtype, m_scales) = exp_avg.parts("adamw_step: exp_avg")?;
        let (v_len, v, v_dtype, v_scales) = exp_avg_sq.parts("adamw_step: exp_avg_sq")?;
        same_length("exp_avg", m_len, count)?;
        same_length("exp_avg_sq", v_len, count)?;
        let tensor = sys::steepest_adamw_tensor {
            count: size(count),
            param: param.as_mut_ptr().cast(),
            grad: grad.as_ptr().cast(),
            exp_avg: m,
            exp_avg_sq: v,
            param_dtype: P::DTYPE,
            grad_dtype: G::DTYPE,
            exp_avg_dtype: m_dtype,
            exp_avg_sq_dtype: v_dtype,
            exp_avg_scales: m_scales,
            exp_avg_sq_scales: v_scales,
            ..sys::STEEPEST_ADAMW_TENSOR_INIT
        };
        Ok(AdamWTensor(tensor, PhantomData))
    }

    /// Not with `emit_delta`.
    pub fn residual(mut self, residual: Residual<'a>) -> Result<Self> {
        let (kind, length, data) = residual.parts(self.0.param_dtype)?;
        same_length("residual", length, self.0.count as usize)?;
        self.0.residual_kind = kind;
        self.0.residual = data;
        Ok(self)
    }

    /// The new parameters rounded to nearest, written in the same pass; f32, `Bf16` or `F16`.
    pub fn param_copy<C: Dtype>(mut self, copy: &'a mut [C]) -> Result<Self> {
        same_length("param_copy", copy.len(), self.0.count as usize)?;
        self.0.param_copy = copy.as_mut_ptr().cast();
        self.0.param_copy_dtype = C::DTYPE;
        Ok(self)
    }

    /// Of `stochastic_rounding`: one stream per tensor of a model, and the place of element 0 in
    /// the tensor that this is a part of.
    pub fn random_stream(mut self, stream: u64, first_index: usize) -> Self {
        self.0.random_stream = stream;
        self.0.first_index = size(first_index);
        self
    }

    /// Hyper-parameters of its own, in place of the call's: a parameter group.
    pub fn config(mut self, config: &'a AdamWConfig) -> Self {
        self.0.config = &config.0;
        self
    }
}

fn same_length(name: &str, length: usize, count: usize) -> Result<()> {
    if length == count {
        return Ok(());
    }
    Error::shape(format!("adamw_step: {} has {} elements, param has {}", name, length, count))
}

/// One AdamW step on a list of tensors, in place:
///
/// ```text
/// g = grad_scale grad      m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g²
/// u = mh / (sqrt(vh) + eps), mh and vh after bias correction
/// param = param - lr (u + weight_decay param)
/// ```
///
/// One call does all tensors in one pass, so give a whole model at once.
///
/// ```
/// use steepest::{adamw_step, AdamWConfig, AdamWTensor, Bf16, Context};
///
/// let mut w = [Bf16::from_f32(1.0); 3];
/// let g = [Bf16::from_f32(0.5); 3];
/// let (mut m, mut v) = ([0f32; 3], [0f32; 3]);
/// let tensor = AdamWTensor::new(&mut w, &g, &mut m, &mut v)?;
/// adamw_step(&Context::default(), &AdamWConfig::new().lr(0.5), &mut [tensor])?;
/// assert_eq!(w[0].to_f32(), 0.494140625);
/// # Ok::<(), steepest::Error>(())
/// ```
#[inline]
pub fn adamw_step(
    context: &Context,
    config: &AdamWConfig,
    tensors: &mut [AdamWTensor<'_>],
) -> Result<Outcome> {
    adamw_step_with_stats(context, config, tensors, None)
}

/// The same, and what the step did to each tensor: as many `stats` as tensors.
#[inline]
pub fn adamw_step_with_stats(
    context: &Context,
    config: &AdamWConfig,
    tensors: &mut [AdamWTensor<'_>],
    stats: Option<&mut [StepStats]>,
) -> Result<Outcome> {
    let stats = stats_pointer(stats, tensors.len(), "adamw_step")?;
    for tensor in tensors.iter() {
        // A config that a tensor names lives as long as the tensor.
        let flags = unsafe { tensor.0.config.as_ref() }.unwrap_or(&config.0).flags;
        if (flags & sys::STEEPEST_ADAMW_EMIT_DELTA == 0) != tensor.0.delta.is_null() {
            return Error::invalid("adamw_step: emit_delta goes with AdamWTensor::emit_delta");
        }
    }
    let mut skipped = 0;
    let config = sys::steepest_adamw_config { skipped: &mut skipped, ..config.0 };
    check(unsafe {
        sys::steepest_adamw_step(
            context.as_ptr(),
            &config,
            tensors.as_ptr().cast(),
            size(tensors.len()),
            stats,
        )
    })?;
    Ok(Outcome::new(skipped))
}

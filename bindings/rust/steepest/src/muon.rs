// SPDX-License-Identifier: Apache-2.0
use std::marker::PhantomData;

use steepest_sys as sys;

use crate::error::{check, size};
use crate::stats::stats_pointer;
use crate::{set_flag, workspace};
use crate::{
    Context, Dtype, Error, MatrixMut, MatrixRef, MsignConfig, Outcome, Residual, Result, State,
    StepStats, Workspace,
};

/// How the momentum is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MomentumKind {
    /// m = mu m + (1 − mu) g
    Ema = sys::STEEPEST_MOMENTUM_EMA,
    /// m = mu m + g
    Classic = sys::STEEPEST_MOMENTUM_CLASSIC,
}

/// The scale s of the update s O; see [`scale_factor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ScaleMode {
    /// value · sqrt(max(out, in)): an RMS of `value`, so that AdamW's lr and decay carry over.
    MatchRms = sys::STEEPEST_SCALE_MATCH_RMS,
    /// value / RMS(O)
    ExactRms = sys::STEEPEST_SCALE_EXACT_RMS,
    None = sys::STEEPEST_SCALE_NONE,
    /// sqrt(max(1, out / in))
    SqrtMax1OutIn = sys::STEEPEST_SCALE_SQRT_MAX1_OUT_IN,
    /// sqrt(out / in)
    SqrtOutIn = sys::STEEPEST_SCALE_SQRT_OUT_IN,
    /// sqrt(max(out, in))
    SqrtMax = sys::STEEPEST_SCALE_SQRT_MAX,
}

/// What a matrix is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum BlockAxis {
    Rows = 0,
    Cols = 1,
}

/// The hyper-parameters of [`muon_step`], as `steepest_muon_config` has them.
#[derive(Clone, Copy, Debug)]
pub struct MuonConfig<'a>(pub(crate) sys::steepest_muon_config, PhantomData<&'a ()>);

// `msign` points to what is borrowed, and `skipped` is null except in a copy within a call.
unsafe impl Send for MuonConfig<'_> {}
unsafe impl Sync for MuonConfig<'_> {}

impl Default for MuonConfig<'_> {
    fn default() -> Self {
        MuonConfig(sys::STEEPEST_MUON_CONFIG_INIT, PhantomData)
    }
}

impl<'a> MuonConfig<'a> {
    /// lr 1e-3, momentum 0.95 with Nesterov, weight decay 1e-2, an update RMS of 0.2.
    pub fn new() -> Self {
        Self::default()
    }

    /// ≥ 0
    pub fn lr(mut self, lr: f64) -> Self {
        self.0.lr = lr;
        self
    }

    /// mu, in [0, 1).
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.momentum = momentum;
        self
    }

    /// ≥ 0; decoupled, with lr itself.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.0.weight_decay = weight_decay;
        self
    }

    /// `value` of the scale modes that have one.
    pub fn scale_value(mut self, value: f64) -> Self {
        self.0.scale_value = value;
        self
    }

    /// Every gradient is multiplied by it first.
    pub fn grad_scale(mut self, grad_scale: f64) -> Self {
        self.0.grad_scale = grad_scale;
        self
    }

    /// The number of this step, from 1; for the statistics and `stochastic_rounding`.
    pub fn step(mut self, step: i64) -> Self {
        self.0.step = step;
        self
    }

    pub fn momentum_kind(mut self, kind: MomentumKind) -> Self {
        self.0.momentum_kind = kind as i32;
        self
    }

    pub fn scale_mode(mut self, mode: ScaleMode) -> Self {
        self.0.scale_mode = mode as i32;
        self
    }

    /// How O is computed.
    pub fn msign(mut self, config: &'a MsignConfig<'a>) -> Self {
        self.0.msign = &config.raw;
        self
    }

    /// On by default.
    pub fn nesterov(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_MUON_NESTEROV, on)
    }

    /// Decay only where O and the parameter have the same sign (arXiv 2510.12402).
    pub fn cautious_decay(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_MUON_CAUTIOUS_DECAY, on)
    }

    /// If an element of a gradient is NaN or infinite, nothing is updated.
    pub fn skip_nonfinite(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_MUON_SKIP_NONFINITE, on)
    }

    /// The update goes to each tensor's `delta`; parameters are only read.
    pub fn emit_delta(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_MUON_EMIT_DELTA, on)
    }

    pub fn maximize(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_MUON_MAXIMIZE, on)
    }

    /// Round to bf16 and 8 bits by random bits: see "stochastic rounding" in steepest.h.
    pub fn stochastic_rounding(self, on: bool) -> Self {
        self.flag(sys::STEEPEST_MUON_STOCHASTIC_ROUNDING, on)
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

/// The matrices of one tensor, of the same shape each.
#[repr(transparent)]
#[derive(Debug)]
pub struct MuonTensor<'a>(sys::steepest_muon_tensor, PhantomData<&'a mut u8>);

impl<'a> MuonTensor<'a> {
    /// Element types: any mix of f32, `Bf16` and `F16`, or all f64. The momentum is zero before
    /// step 1.
    pub fn new<P: Dtype, G: Dtype, M: Dtype>(
        mut param: MatrixMut<'a, P>,
        grad: MatrixRef<'a, G>,
        mut momentum: MatrixMut<'a, M>,
    ) -> Result<Self> {
        let (shape, ld) = (param.shape(), param.c_ld());
        let mut tensor = Self::with(shape, &grad, &mut momentum)?;
        tensor.param = param.as_mut_ptr();
        tensor.param_ld = ld;
        tensor.param_dtype = P::DTYPE;
        Ok(MuonTensor(tensor, PhantomData))
    }

    /// For `emit_delta`: new − old parameters are written to `delta`.
    pub fn emit_delta<P: Dtype, G: Dtype, M: Dtype, D: Dtype>(
        param: MatrixRef<'a, P>,
        grad: MatrixRef<'a, G>,
        mut momentum: MatrixMut<'a, M>,
        mut delta: MatrixMut<'a, D>,
    ) -> Result<Self> {
        same_shape("delta", delta.shape(), param.shape())?;
        let mut tensor = Self::with(param.shape(), &grad, &mut momentum)?;
        // Only read: a step refuses a tensor with a delta if it would write the parameters.
        tensor.param = param.as_ptr() as *mut _;
        tensor.param_ld = param.c_ld();
        tensor.param_dtype = P::DTYPE;
        tensor.delta_ld = delta.c_ld();
        tensor.delta = delta.as_mut_ptr();
        tensor.delta_dtype = D::DTYPE;
        Ok(MuonTensor(tensor, PhantomData))
    }

    fn with<G: Dtype, M: Dtype>(
        shape: (i64, i64),
        grad: &MatrixRef<'a, G>,
        momentum: &mut MatrixMut<'a, M>,
    ) -> Result<sys::steepest_muon_tensor> {
        same_shape("grad", grad.shape(), shape)?;
        same_shape("momentum", momentum.shape(), shape)?;
        Ok(sys::steepest_muon_tensor {
            rows: shape.0,
            cols: shape.1,
            grad_ld: grad.c_ld(),
            momentum_ld: momentum.c_ld(),
            grad: grad.as_ptr(),
            momentum: momentum.as_mut_ptr(),
            grad_dtype: G::DTYPE,
            momentum_dtype: M::DTYPE,
            ..sys::STEEPEST_MUON_TENSOR_INIT
        })
    }

    /// For a weight that is stored as in x W, or a reshaped convolution. 0: rows and cols.
    pub fn fans(mut self, fan_out: usize, fan_in: usize) -> Self {
        self.0.fan_out = size(fan_out);
        self.0.fan_in = size(fan_in);
        self
    }

    /// The sizes of the blocks that the matrix consists of: msign and scale are per block, as fused
    /// query-key-value weights need it.
    pub fn blocks(mut self, sizes: &'a [i64], axis: BlockAxis) -> Self {
        self.0.blocks = sizes.as_ptr();
        self.0.block_count = size(sizes.len());
        self.0.block_axis = axis as i32;
        self
    }

    /// Momentum in any storage type, 8-bit ones too: the elements row by row, without gaps.
    pub fn with_state<P: Dtype, G: Dtype>(
        mut param: MatrixMut<'a, P>,
        grad: MatrixRef<'a, G>,
        momentum: State<'a>,
    ) -> Result<Self> {
        let (rows, cols) = param.shape();
        same_shape("grad", grad.shape(), (rows, cols))?;
        let (length, data, dtype, scales) = momentum.parts("muon_step: momentum")?;
        if rows.checked_mul(cols) != Some(size(length)) {
            return Error::shape(format!(
                "muon_step: momentum has {} elements, param is {} x {}",
                length, rows, cols
            ));
        }
        let tensor = sys::steepest_muon_tensor {
            rows,
            cols,
            param_ld: param.c_ld(),
            grad_ld: grad.c_ld(),
            param: param.as_mut_ptr(),
            grad: grad.as_ptr(),
            momentum: data,
            param_dtype: P::DTYPE,
            grad_dtype: G::DTYPE,
            momentum_dtype: dtype,
            momentum_scales: scales,
            ..sys::STEEPEST_MUON_TENSOR_INIT
        };
        Ok(MuonTensor(tensor, PhantomData))
    }

    /// Its rows are as far apart as the parameter's. Not with `emit_delta`.
    pub fn residual(mut self, residual: Residual<'a>) -> Result<Self> {
        let (kind, length, data) = residual.parts(self.0.param_dtype)?;
        let needed = match self.0.rows {
            0 => 0,
            rows => (rows - 1) * self.0.param_ld + self.0.cols,
        };
        if size(length) < needed {
            return Error::shape(format!(
                "muon_step: residual has {} elements, needed are {}",
                length, needed
            ));
        }
        self.0.residual_kind = kind;
        self.0.residual = data;
        Ok(self)
    }

    /// The new parameters rounded to nearest, written in the same pass; f32, `Bf16` or `F16`.
    pub fn param_copy<C: Dtype>(mut self, mut copy: MatrixMut<'a, C>) -> Result<Self> {
        same_shape("param_copy", copy.shape(), (self.0.rows, self.0.cols))?;
        self.0.param_copy_ld = copy.c_ld();
        self.0.param_copy = copy.as_mut_ptr();
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

    /// Hyper-parameters of its own, in place of the call's.
    pub fn config(mut self, config: &'a MuonConfig<'a>) -> Self {
        self.0.config = &config.0;
        self
    }
}

fn same_shape(name: &str, shape: (i64, i64), param: (i64, i64)) -> Result<()> {
    if shape == param {
        return Ok(());
    }
    Error::shape(format!(
        "muon_step: {} is {} x {}, param is {} x {}",
        name, shape.0, shape.1, param.0, param.1
    ))
}

/// One Muon step on a list of hidden weight matrices, in place:
///
/// ```text
/// m = mu m + (1 - mu) g      u = mu m + (1 - mu) g      O = msign(u)
/// param = param - lr (s O + weight_decay param)
/// ```
///
/// If a tensor's u is not finite, or its msign fails, that tensor is left as it was, the others are
/// done, and the error says so; the statistics tell which.
///
/// ```
/// use steepest::{muon_step, Context, MatrixMut, MatrixRef, MuonConfig, MuonTensor};
///
/// let (mut w, g, mut m) = ([0f32; 6], [1f32, 0.0, 0.0, 0.0, 2.0, 0.0], [0f32; 6]);
/// let tensor = MuonTensor::new(
///     MatrixMut::new(&mut w, 2, 3)?,
///     MatrixRef::new(&g, 2, 3)?,
///     MatrixMut::new(&mut m, 2, 3)?,
/// )?;
/// muon_step(&Context::default(), &MuonConfig::new().lr(1.0), &mut [tensor])?;
/// // 0.2 sqrt(3), within the band of the default method
/// assert!((w[0] + 0.346).abs() < 0.03 && (w[4] + 0.346).abs() < 0.03);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn muon_step(
    context: &Context,
    config: &MuonConfig<'_>,
    tensors: &mut [MuonTensor<'_>],
) -> Result<Outcome> {
    muon_step_with_stats(context, config, tensors, None)
}

/// The same, and what the step did to each tensor: as many `stats` as tensors.
pub fn muon_step_with_stats(
    context: &Context,
    config: &MuonConfig<'_>,
    tensors: &mut [MuonTensor<'_>],
    stats: Option<&mut [StepStats]>,
) -> Result<Outcome> {
    muon_step_with_workspace(context, config, tensors, stats, &mut Workspace::pooled())
}

/// The same with scratch memory of your own: at least [`muon_workspace_size`] bytes.
pub fn muon_step_with_workspace(
    context: &Context,
    config: &MuonConfig<'_>,
    tensors: &mut [MuonTensor<'_>],
    stats: Option<&mut [StepStats]>,
    workspace: &mut Workspace<'_>,
) -> Result<Outcome> {
    let stats = stats_pointer(stats, tensors.len(), "muon_step")?;
    for tensor in tensors.iter() {
        // A config that a tensor names lives as long as the tensor.
        let flags = unsafe { tensor.0.config.as_ref() }.unwrap_or(&config.0).flags;
        if (flags & sys::STEEPEST_MUON_EMIT_DELTA == 0) != tensor.0.delta.is_null() {
            return Error::invalid("muon_step: emit_delta goes with MuonTensor::emit_delta");
        }
    }
    let mut skipped = 0;
    let config = sys::steepest_muon_config { skipped: &mut skipped, ..config.0 };
    let raw = workspace.raw();
    check(unsafe {
        sys::steepest_muon_step(
            context.as_ptr(),
            &config,
            tensors.as_ptr().cast(),
            size(tensors.len()),
            workspace::pointer(&raw),
            stats,
        )
    })?;
    Ok(Outcome::new(skipped))
}

/// The bytes of scratch memory that a step needs for these tensors.
pub fn muon_workspace_size(
    context: &Context,
    config: &MuonConfig<'_>,
    tensors: &[MuonTensor<'_>],
) -> Result<usize> {
    let mut bytes = 0;
    let (context, count) = (context.as_ptr(), size(tensors.len()));
    check(unsafe {
        let tensors = tensors.as_ptr().cast();
        sys::steepest_muon_workspace_size(context, &config.0, tensors, count, &mut bytes)
    })?;
    Ok(bytes)
}

/// The s of a scale mode, for a weight with `fan_out` rows and `fan_in` columns (y = W x).
///
/// ```
/// use steepest::{scale_factor, ScaleMode};
/// assert_eq!(scale_factor(ScaleMode::SqrtOutIn, 0.0, 4, 1)?, 2.0);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn scale_factor(mode: ScaleMode, value: f64, fan_out: usize, fan_in: usize) -> Result<f64> {
    let mut out = 0.0;
    check(unsafe {
        sys::steepest_scale_factor(mode as i32, value, size(fan_out), size(fan_in), &mut out)
    })?;
    Ok(out)
}

// SPDX-License-Identifier: Apache-2.0
use steepest_sys as sys;

use super::bytes::{Kind, Reader, Writer};
use super::{check_counts, State};
use crate::{
    muon_step_with_stats, BlockAxis, Context, Dtype, Error, MatrixMut, MatrixRef, MsignConfig,
    MuonConfig, MuonTensor, Outcome, Result, StepStats,
};

/// A weight matrix that Muon trains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MuonShape {
    rows: usize,
    cols: usize,
    fans: (usize, usize),
    blocks: Vec<i64>,
    axis: BlockAxis,
}

impl MuonShape {
    /// Row-major, y = W x.
    pub fn new(rows: usize, cols: usize) -> Self {
        MuonShape { rows, cols, fans: (0, 0), blocks: Vec::new(), axis: BlockAxis::Rows }
    }

    /// For a weight that is stored as in x W, or a reshaped convolution.
    pub fn fans(mut self, fan_out: usize, fan_in: usize) -> Self {
        self.fans = (fan_out, fan_in);
        self
    }

    /// The sizes of the blocks that it consists of.
    pub fn blocks(mut self, sizes: &[i64], axis: BlockAxis) -> Self {
        self.blocks = sizes.to_vec();
        self.axis = axis;
        self
    }
}

impl From<(usize, usize)> for MuonShape {
    fn from((rows, cols): (usize, usize)) -> Self {
        MuonShape::new(rows, cols)
    }
}

/// Muon with its state: the momentum of each matrix, and the number of steps. For hidden weight
/// matrices; embeddings, the output head, norms and biases belong to [`AdamW`](super::AdamW), at
/// the same learning rate and decay.
///
/// ```
/// use steepest::{optim::Muon, Context, MsignConfig, MuonConfig};
///
/// let mut w = vec![0.0f32; 6];
/// let config = MuonConfig::new().lr(0.02);
/// let mut optimizer = Muon::<f32>::new(config, MsignConfig::new(), vec![(2, 3).into()])?;
/// let grad = [1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0];
/// optimizer.step(&Context::default(), &mut [&mut w], &[&grad])?;
/// let again = Muon::<f32>::from_bytes(&optimizer.to_bytes())?;
/// assert_eq!(again.momentum(0), optimizer.momentum(0));
/// # Ok::<(), steepest::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Muon<S: State = f32> {
    config: MuonConfig<'static>,
    msign: MsignConfig<'static>, // its slices are the two below, while a step runs
    custom: Option<Vec<[f64; 3]>>,
    restarts: Option<Vec<i32>>,
    steps: i64,
    shapes: Vec<MuonShape>,
    momenta: Vec<Vec<S>>,
}

/// The scalar fields that are saved, in this order.
fn msign_integers(raw: &mut sys::steepest_msign_config) -> [&mut i32; 5] {
    [
        &mut raw.method,
        &mut raw.steps,
        &mut raw.coefficients,
        &mut raw.normalization,
        &mut raw.compute_dtype,
    ]
}

fn msign_numbers(raw: &mut sys::steepest_msign_config) -> [&mut f64; 3] {
    [&mut raw.lower_bound, &mut raw.norm_bound, &mut raw.rank_tolerance]
}

fn muon_numbers(raw: &mut sys::steepest_muon_config) -> [&mut f64; 5] {
    [
        &mut raw.lr,
        &mut raw.momentum,
        &mut raw.weight_decay,
        &mut raw.scale_value,
        &mut raw.grad_scale,
    ]
}

impl<S: State> Muon<S> {
    /// For matrices of these shapes. `config` names no msign and no step: both are given here, or
    /// kept.
    pub fn new(
        config: MuonConfig<'static>,
        msign: MsignConfig<'_>,
        shapes: Vec<MuonShape>,
    ) -> Result<Self> {
        if config.0.flags & sys::STEEPEST_MUON_EMIT_DELTA != 0 {
            return Error::invalid("optim::Muon: emit_delta is for muon_step");
        }
        if !config.0.msign.is_null() {
            return Error::invalid("optim::Muon: msign is an argument of its own");
        }
        let momenta = shapes.iter().map(|shape| {
            let size = shape.rows.checked_mul(shape.cols).filter(|&n| n <= isize::MAX as usize / 8);
            match size {
                Some(size) => Ok(vec![S::default(); size]),
                None => Error::shape("optim::Muon: a shape is too large"),
            }
        });
        let momenta = momenta.collect::<Result<Vec<_>>>()?;
        let (custom, restarts) = (msign.custom, msign.restarts);
        let (custom, restarts) = (custom.map(<[_]>::to_vec), restarts.map(<[_]>::to_vec));
        let mut owned = MsignConfig::new();
        owned.raw = msign.raw;
        forget_slices(&mut owned);
        Ok(Muon { config, msign: owned, custom, restarts, steps: 0, shapes, momenta })
    }

    /// One step, with gradients and parameters as dense rows. If it is skipped, it does not count.
    /// On an error of one matrix (see [`muon_step`](crate::muon_step)) it counts for the others.
    pub fn step<P: Dtype, G: Dtype>(
        &mut self,
        context: &Context,
        params: &mut [&mut [P]],
        grads: &[&[G]],
    ) -> Result<Outcome> {
        self.step_with_stats(context, params, grads, None)
    }

    /// The same, and what it did to each matrix.
    pub fn step_with_stats<P: Dtype, G: Dtype>(
        &mut self,
        context: &Context,
        params: &mut [&mut [P]],
        grads: &[&[G]],
        stats: Option<&mut [StepStats]>,
    ) -> Result<Outcome> {
        check_counts("Muon", params.len(), grads.len(), self.shapes.len())?;
        let mut tensors = Vec::with_capacity(params.len());
        let states = self.shapes.iter().zip(&mut self.momenta);
        for ((param, grad), (shape, momentum)) in params.iter_mut().zip(grads).zip(states) {
            let (rows, cols) = (shape.rows, shape.cols);
            let mut tensor = MuonTensor::new(
                MatrixMut::new(param, rows, cols)?,
                MatrixRef::new(grad, rows, cols)?,
                MatrixMut::new(momentum, rows, cols)?,
            )?
            .fans(shape.fans.0, shape.fans.1);
            if !shape.blocks.is_empty() {
                tensor = tensor.blocks(&shape.blocks, shape.axis);
            }
            tensors.push(tensor);
        }
        let mut msign: MsignConfig<'_> = self.msign;
        if let Some(rows) = &self.custom {
            msign = msign.custom_coefficients(rows);
        }
        if let Some(steps) = &self.restarts {
            msign = msign.restarts(steps);
        }
        let config: MuonConfig<'_> = self.config;
        let config = config.msign(&msign).step(self.steps + 1);
        let result = muon_step_with_stats(context, &config, &mut tensors, stats);
        let made = match &result {
            Ok(outcome) => *outcome == Outcome::Done,
            Err(error) => {
                use crate::ErrorKind::{Nonfinite, NotConverged};
                matches!(error.kind(), Nonfinite | NotConverged)
            }
        };
        self.steps += i64::from(made);
        result
    }

    /// How many steps were made.
    pub fn steps(&self) -> i64 {
        self.steps
    }

    pub fn config(&self) -> &MuonConfig<'static> {
        &self.config
    }

    /// The learning rate of the next step, as a schedule gives it.
    pub fn set_lr(&mut self, lr: f64) {
        self.config = self.config.lr(lr);
    }

    /// The factor of the next gradients.
    pub fn set_grad_scale(&mut self, grad_scale: f64) {
        self.config = self.config.grad_scale(grad_scale);
    }

    /// The momentum of a matrix.
    pub fn momentum(&self, matrix: usize) -> Option<&[S]> {
        self.momenta.get(matrix).map(|x| &x[..])
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new::<S>(Kind::Muon);
        let (mut config, mut msign) = (self.config.0, self.msign.raw);
        writer.u64(config.flags);
        writer.i64(i64::from(config.momentum_kind));
        writer.i64(i64::from(config.scale_mode));
        muon_numbers(&mut config).iter().for_each(|value| writer.f64(**value));
        writer.u64(msign.flags);
        msign_integers(&mut msign).iter().for_each(|value| writer.i64(i64::from(**value)));
        msign_numbers(&mut msign).iter().for_each(|value| writer.f64(**value));
        writer.u64(u64::from(self.custom.is_some()));
        writer.state::<f64>(&self.custom.iter().flatten().flatten().copied().collect::<Vec<_>>());
        writer.u64(u64::from(self.restarts.is_some()));
        let restarts = self.restarts.iter().flatten().map(|&step| f64::from(step));
        writer.state::<f64>(&restarts.collect::<Vec<_>>());
        writer.i64(self.steps);
        writer.u64(self.shapes.len() as u64);
        for (shape, momentum) in self.shapes.iter().zip(&self.momenta) {
            for size in [shape.rows, shape.cols, shape.fans.0, shape.fans.1, shape.axis as usize] {
                writer.u64(size as u64);
            }
            writer.u64(shape.blocks.len() as u64);
            shape.blocks.iter().for_each(|&size| writer.i64(size));
            writer.state(momentum);
        }
        writer.finish()
    }

    /// Everything as it was saved, hyper-parameters included.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new::<S>(bytes, Kind::Muon)?;
        let (mut config, mut msign) = (MuonConfig::new(), MsignConfig::new());
        config.0.flags = reader.u64()?;
        config.0.momentum_kind = reader.i32()?;
        config.0.scale_mode = reader.i32()?;
        for value in muon_numbers(&mut config.0) {
            *value = reader.f64()?;
        }
        msign.raw.flags = reader.u64()?;
        for value in msign_integers(&mut msign.raw) {
            *value = reader.i32()?;
        }
        for value in msign_numbers(&mut msign.raw) {
            *value = reader.f64()?;
        }
        let has_custom = reader.u64()? != 0;
        let rows: Vec<f64> = reader.state()?;
        let custom: Vec<_> = rows.chunks_exact(3).map(|row| [row[0], row[1], row[2]]).collect();
        let has_restarts = reader.u64()? != 0;
        let restarts: Vec<f64> = reader.state()?;
        let restarts: Vec<i32> = restarts.iter().map(|&step| step as i32).collect();
        let steps = reader.i64()?;
        let (mut shapes, mut momenta) = (Vec::new(), Vec::new());
        for _ in 0..reader.count()? {
            let mut numbers = [0; 5];
            for number in &mut numbers {
                *number = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
            }
            let mut blocks = Vec::new();
            for _ in 0..reader.count()? {
                blocks.push(reader.i64()?);
            }
            let axis = if numbers[4] == 0 { BlockAxis::Rows } else { BlockAxis::Cols };
            let momentum: Vec<S> = reader.state()?;
            if numbers[0].checked_mul(numbers[1]) != Some(momentum.len()) {
                return Error::shape("from_bytes: a momentum has not its matrix's size");
            }
            let shape = MuonShape::new(numbers[0], numbers[1]).fans(numbers[2], numbers[3]);
            shapes.push(shape.blocks(&blocks, axis));
            momenta.push(momentum);
        }
        reader.finish()?;
        // Coefficients of one's own without rows would be a pointer to nothing.
        let is_custom = msign.raw.coefficients == sys::STEEPEST_COEF_CUSTOM;
        let emits = config.0.flags & sys::STEEPEST_MUON_EMIT_DELTA != 0;
        if !(0..i64::MAX).contains(&steps) || is_custom != has_custom || emits {
            return Error::invalid("from_bytes: a value is out of its range");
        }
        let (custom, restarts) = (has_custom.then_some(custom), has_restarts.then_some(restarts));
        Ok(Muon { config, msign, custom, restarts, steps, shapes, momenta })
    }
}

fn forget_slices(config: &mut MsignConfig<'static>) {
    config.raw.custom_coefficients = std::ptr::null();
    config.raw.custom_count = 0;
    config.raw.restarts = std::ptr::null();
    config.raw.restart_count = 0;
}

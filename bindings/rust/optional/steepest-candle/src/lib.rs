// SPDX-License-Identifier: Apache-2.0
//! AdamW as an optimizer of candle; README.md says what is tested and what a step costs.
use candle_core::backprop::GradStore;
use candle_core::{Error, Result, Tensor, Var};
use steepest::{optim, AdamWConfig, Context};

pub struct AdamW {
    vars: Vec<Var>,
    state: optim::AdamW<f32>,
    context: Context,
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}

impl candle_nn::Optimizer for AdamW {
    type Config = AdamWConfig;

    fn new(vars: Vec<Var>, config: AdamWConfig) -> Result<Self> {
        let sizes: Vec<usize> = vars.iter().map(|var| var.elem_count()).collect();
        let state = optim::AdamW::new(config, &sizes).map_err(Error::wrap)?;
        Ok(AdamW { vars, state, context: Context::default() })
    }

    /// A variable without a gradient is an error: state and steps are those of all variables.
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let (mut params, mut gradients) = (Vec::new(), Vec::new());
        for var in &self.vars {
            let grad =
                grads.get(var).ok_or_else(|| Error::Msg("a variable has no gradient".into()))?;
            params.push(flat(var.as_tensor())?);
            gradients.push(flat(grad)?);
        }
        let mut targets: Vec<&mut [f32]> = params.iter_mut().map(|x| &mut x[..]).collect();
        let sources: Vec<&[f32]> = gradients.iter().map(|x| &x[..]).collect();
        self.state.step(&self.context, &mut targets, &sources).map_err(Error::wrap)?;
        for (var, param) in self.vars.iter().zip(params) {
            var.set(&Tensor::from_vec(param, var.shape(), var.device())?)?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.state.config().get_lr()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.state.set_lr(lr);
    }
}

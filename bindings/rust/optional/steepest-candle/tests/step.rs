// SPDX-License-Identifier: Apache-2.0
//! Steps by candle's trait, against steepest's own; with candle or with its stand-in.
use candle_core::{Device, Result, Tensor, Var};
use candle_nn::Optimizer;
use steepest::{optim, AdamWConfig, Context};

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_bits_of_steepest_itself() -> Result<()> {
    let (w, b) = (vec![1f32, -2.0, 3.0, 0.5, 0.25, -1.0], vec![0.5f32, 0.0]);
    let (grad_w, grad_b) = (vec![0.1f32, 0.2, -0.3, 0.4, 0.0, 1.0], vec![-0.5f32, 0.25]);
    let config = AdamWConfig::new().lr(0.1).weight_decay(0.01);

    let vars = [
        Var::from_vec(w.clone(), (2, 3), &Device::Cpu)?,
        Var::from_vec(b.clone(), 2, &Device::Cpu)?,
    ];
    let mut optimizer = steepest_candle::AdamW::new(vars.to_vec(), config)?;
    // Linear, so that each gradient is the other factor.
    let factors = [
        Tensor::from_vec(grad_w.clone(), (2, 3), &Device::Cpu)?,
        Tensor::from_vec(grad_b.clone(), 2, &Device::Cpu)?,
    ];
    let loss = || {
        let of_w = vars[0].mul(&factors[0])?.sum_all()?;
        of_w.add(&vars[1].mul(&factors[1])?.sum_all()?)
    };
    for step in 0..3 {
        optimizer.backward_step(&loss()?)?;
        optimizer.set_learning_rate(0.05 / f64::from(step + 1));
    }
    assert_eq!(optimizer.learning_rate(), 0.05 / 3.0);

    let mut ours = optim::AdamW::<f32>::new(config, &[6, 2]).unwrap();
    let (mut w, mut b) = (w, b);
    for step in 0..3 {
        let grads: [&[f32]; 2] = [&grad_w, &grad_b];
        ours.step(&Context::default(), &mut [&mut w, &mut b], &grads).unwrap();
        ours.set_lr(0.05 / f64::from(step + 1));
    }
    assert_eq!((values(&vars[0]), values(&vars[1])), (w, b));

    // A variable without a gradient.
    let only_w = vars[0].mul(&factors[0])?.sum_all()?;
    assert!(optimizer.backward_step(&only_w).is_err());
    Ok(())
}

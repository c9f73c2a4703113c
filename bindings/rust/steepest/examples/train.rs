// SPDX-License-Identifier: Apache-2.0
//! Trains a small network on the two-spirals problem: a hidden layer whose matrix Muon trains, and
//! AdamW for the rest, under one schedule. `cargo run --release --example train`
use steepest::{
    grad_norm, optim, AdamWConfig, Context, MsignConfig, MuonConfig, Schedule, ScheduleKind,
};

const HIDDEN: usize = 32;
const POINTS: usize = 400;
const STEPS: usize = 600;

/// y = w3 · tanh(W2 tanh(W1 x + b1) + b2) + b3, two inputs, one output; the loss is logistic.
struct Network {
    w1: Vec<f32>,
    b1: Vec<f32>,
    w2: Vec<f32>,
    b2: Vec<f32>,
    w3: Vec<f32>,
    b3: Vec<f32>,
}

fn zeros() -> Network {
    let zeros = |n: usize| vec![0f32; n];
    Network {
        w1: zeros(2 * HIDDEN),
        b1: zeros(HIDDEN),
        w2: zeros(HIDDEN * HIDDEN),
        b2: zeros(HIDDEN),
        w3: zeros(HIDDEN),
        b3: zeros(1),
    }
}

/// splitmix64: the same numbers everywhere, in -1..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Two arms, one for each label.
fn spirals() -> Vec<([f32; 2], f32)> {
    (0..POINTS)
        .map(|i| {
            let (t, label) = ((i / 2) as f32 / (POINTS / 2) as f32, (i % 2) as f32);
            let angle = 7.0 * t + std::f32::consts::PI * label;
            let radius = 0.15 + 0.85 * t;
            ([radius * angle.cos(), radius * angle.sin()], label)
        })
        .collect()
}

/// Adds the gradient of one point's loss to `grad`; returns the loss and whether the label is
/// right.
fn backpropagate(net: &Network, grad: &mut Network, x: [f32; 2], label: f32) -> (f32, bool) {
    let row = |w: &[f32], i: usize, n: usize, x: &[f32]| {
        w[i * n..][..n].iter().zip(x).map(|(w, x)| w * x).sum::<f32>()
    };
    let h1: Vec<f32> = (0..HIDDEN).map(|i| (row(&net.w1, i, 2, &x) + net.b1[i]).tanh()).collect();
    let h2: Vec<f32> =
        (0..HIDDEN).map(|i| (row(&net.w2, i, HIDDEN, &h1) + net.b2[i]).tanh()).collect();
    let y = row(&net.w3, 0, HIDDEN, &h2) + net.b3[0];
    let probability = 1.0 / (1.0 + (-y).exp());
    let dy = probability - label;
    grad.b3[0] += dy;
    let mut d1 = [0f32; HIDDEN];
    for (i, h) in h2.iter().enumerate() {
        grad.w3[i] += dy * h;
        let d = dy * net.w3[i] * (1.0 - h * h);
        grad.b2[i] += d;
        for j in 0..HIDDEN {
            grad.w2[i * HIDDEN + j] += d * h1[j];
            d1[j] += d * net.w2[i * HIDDEN + j];
        }
    }
    for (i, h) in h1.iter().enumerate() {
        let d = d1[i] * (1.0 - h * h);
        grad.b1[i] += d;
        grad.w1[2 * i] += d * x[0];
        grad.w1[2 * i + 1] += d * x[1];
    }
    let loss = if label > 0.5 { (1.0 + (-y).exp()).ln() } else { (1.0 + y.exp()).ln() };
    (loss, (y > 0.0) == (label > 0.5))
}

fn main() -> steepest::Result<()> {
    let context = Context::new()?;
    let mut random = Random(1);
    let mut net = zeros();
    net.w1.iter_mut().for_each(|w| *w = 2.0 * random.next());
    net.w2.iter_mut().chain(&mut net.w3).for_each(|w| *w = 0.3 * random.next());

    let sizes = [net.w1.len(), net.b1.len(), net.b2.len(), net.w3.len(), net.b3.len()];
    let mut adamw = optim::AdamW::<f32>::new(AdamWConfig::new().weight_decay(0.0), &sizes)?;
    let hidden = vec![(HIDDEN, HIDDEN).into()];
    let config = MuonConfig::new().weight_decay(0.0);
    let mut muon = optim::Muon::<f32>::new(config, MsignConfig::new(), hidden)?;
    let schedule = Schedule::new(ScheduleKind::Cosine).lr(0.02).warmup_steps(20);

    let data = spirals();
    let (mut loss, mut right) = (0.0, 0);
    for (step, lr) in schedule.fill(STEPS)?.into_iter().enumerate() {
        let mut grad = zeros();
        loss = 0.0;
        right = 0;
        for &(x, label) in &data {
            let (one, correct) = backpropagate(&net, &mut grad, x, label);
            loss += one / POINTS as f32;
            right += usize::from(correct);
        }
        // The mean, clipped to a norm of 1: one factor.
        let all = [&grad.w1, &grad.b1, &grad.w2, &grad.b2, &grad.w3, &grad.b3];
        let vectors: Vec<_> = all.iter().map(|x| (*x).into()).collect();
        let norm = grad_norm(&context, &vectors)?.norm / POINTS as f64;
        let scale = (1.0 / norm).min(1.0) / POINTS as f64;
        adamw.set_lr(lr);
        adamw.set_grad_scale(scale);
        muon.set_lr(lr);
        muon.set_grad_scale(scale);
        adamw.step(
            &context,
            &mut [&mut net.w1, &mut net.b1, &mut net.b2, &mut net.w3, &mut net.b3],
            &[&grad.w1, &grad.b1, &grad.b2, &grad.w3, &grad.b3],
        )?;
        muon.step(&context, &mut [&mut net.w2], &[&grad.w2])?;
        if step % 100 == 0 {
            println!("step {:4}  loss {:.4}  {}/{} right", step, loss, right, POINTS);
        }
    }
    println!("at the end  loss {:.4}  {}/{} right", loss, right, POINTS);
    assert!(right > POINTS * 95 / 100, "the network has not learned the spirals");
    Ok(())
}

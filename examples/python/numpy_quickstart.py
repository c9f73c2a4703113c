# SPDX-License-Identifier: Apache-2.0
"""Trains a network of two layers with NumPy: Muon for the matrices, AdamW for the biases.

usage: python examples/python/numpy_quickstart.py
"""

import numpy as np
import steepest

steepest.show_config()
rng = np.random.default_rng(0)


def random(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


# What is to be learnt: the angle of a point in the plane.
x = random(4096, 2)
y = np.arctan2(x[:, 1:], x[:, :1]) / np.pi

matrices = [random(2, 256), random(256, 256) / 16]
vectors = [np.zeros(256, np.float32), np.zeros(256, np.float32), np.zeros((256, 1), np.float32)]

# The state of the optimizers is plain arrays: save them, and you have saved it.
momentum = [np.zeros_like(w) for w in matrices]
exp_avg = [np.zeros_like(w) for w in vectors]
exp_avg_sq = [np.zeros_like(w) for w in vectors]


def loss_and_gradients(x, y):
    (w1, w2), (b1, b2, w3) = matrices, vectors
    h1 = np.maximum(x @ w1 + b1, 0)
    h2 = np.maximum(h1 @ w2 + b2, 0)
    error = h2 @ w3 - y
    d3 = 2 * error / len(x)
    d2 = (d3 @ w3.T) * (h2 > 0)
    d1 = (d2 @ w2.T) * (h1 > 0)
    gradients = [x.T @ d1, h1.T @ d2], [d1.sum(0), d2.sum(0), h2.T @ d3]
    return np.mean(error**2), *gradients


stats: list[steepest.StepStats] = []
steps = 300
for step in range(1, steps + 1):
    batch = rng.integers(0, len(x), 256)
    _, matrix_grads, vector_grads = loss_and_gradients(x[batch], y[batch])
    lr = 0.01 * (1 - step / (steps + 1))
    norm = steepest.grad_norm(matrix_grads + vector_grads).norm
    options = {"step": step, "lr": lr, "grad_scale": min(1.0, 1.0 / norm), "stats": stats}
    steepest.muon_step(matrices, matrix_grads, momentum, **options)
    steepest.adamw_step(vectors, vector_grads, exp_avg, exp_avg_sq, **options)
    if step % 50 == 0:
        loss = loss_and_gradients(x, y)[0]
        rms = stats[0].update_rms
        print(f"step {step:3}  loss {loss:.5f}  gradient norm {norm:.3f}  update RMS {rms:.2f}")

# The weights' signs: all singular values become 1.
sign = steepest.msign(matrices[1], method="accurate")
print("singular values of msign(W):", steepest.singular_values(sign)[[0, -1]])
print("singular entropy of W:", steepest.singular_entropy(steepest.singular_values(matrices[1])))

# SPDX-License-Identifier: Apache-2.0
"""Run by check.sh where nothing but numpy is installed."""

import numpy as np
import steepest

steepest.show_config()
config = steepest.get_config()
assert "site-packages" in steepest.__file__, steepest.__file__
assert "site-packages" in str(config["library"])

x = np.random.default_rng(0).standard_normal((20, 50))
o = steepest.msign(x, method="svd")
assert np.allclose(o @ o.T, np.eye(20))
assert np.allclose(np.linalg.svd(x, compute_uv=False), steepest.singular_values(x))

param, grad, exp_avg, exp_avg_sq = (np.zeros(1000, np.float32) for _ in range(4))
grad[:] = -2
assert steepest.adamw_step(param, grad, exp_avg, exp_avg_sq, step=1, lr=0.1)
assert np.allclose(param, 0.1)
try:
    steepest.adamw_step(param, grad[::2], exp_avg, exp_avg_sq, step=2)
except ValueError as error:
    assert "grad" in str(error)
else:
    raise AssertionError("a gradient of the wrong shape was accepted")

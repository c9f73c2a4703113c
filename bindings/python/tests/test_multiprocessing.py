# SPDX-License-Identifier: Apache-2.0
"""Steps in the processes of multiprocessing, however it starts them."""

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import steepest

COUNT = 1 << 17  # enough to be handed to threads


def arrays():
    values = np.random.default_rng(5).standard_normal((4, COUNT)).astype(np.float32)
    values[3] **= 2
    return list(values)


def work(threads):
    """One call of each kind; what a parent and all of its children must agree on to the bit."""
    param, grad, exp_avg, exp_avg_sq = arrays()
    steepest.adamw_step(param, grad, exp_avg, exp_avg_sq, step=3, threads=threads)
    matrix = grad[:4096].reshape(64, 64)
    weights, momentum = param[:4096].reshape(64, 64).copy(), np.zeros((64, 64), np.float32)
    steepest.muon_step(weights, matrix, momentum, threads=threads)
    sign = steepest.msign(matrix, method="svd", threads=threads)
    assert np.allclose(sign @ sign.T, np.eye(64), atol=1e-4)
    norm = steepest.grad_norm([grad], threads=threads)
    return param.tobytes() + weights.tobytes() + np.float64(norm.norm).tobytes()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    # In a process of its own: pytest's has threads of other tests.
    done = subprocess.run(
        [sys.executable, __file__, method],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["right"] * 3


def main(method):
    context = multiprocessing.get_context(method)
    expected = work(2)  # the parent's threads exist from here on
    with context.Pool(3) as pool:
        # By turns, so that a pool is forked before and after a parent's further calls.
        first = pool.map(work, [2, 1, 2, 2], chunksize=1)
        print("right" if all(found == expected for found in first) else "wrong")
        print("right" if work(1) == expected else "wrong")
    process = context.Process(target=work, args=(2,))
    process.start()
    process.join(60)
    print("right" if process.exitcode == 0 else "wrong")


if __name__ == "__main__":
    main(sys.argv[1])

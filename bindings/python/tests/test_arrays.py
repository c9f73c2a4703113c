# SPDX-License-Identifier: Apache-2.0
"""Arrays of every origin are used where they lie."""

import array
import ctypes
import gc

import numpy as np
import pytest
import steepest
from support import BF16

from steepest._arrays import _DLManagedTensorVersioned, _DLTensor  # isort: skip


class Exported:
    """A CPU tensor of another library: an array behind DLPack, of version 0 or 1."""

    def __init__(self, values, *, versioned=True, kind=(2, 32, 1), flags=0, device=1, major=1):
        self.values = values
        self.versioned = versioned
        self.device = device
        self.managed = _DLManagedTensorVersioned() if versioned else _DLTensor()
        tensor = self.managed.tensor if versioned else self.managed
        if versioned:
            self.managed.major = major
            self.managed.flags = flags
        tensor.data = values.ctypes.data - 8
        tensor.byte_offset = 8
        tensor.device_type = device
        tensor.ndim = values.ndim
        tensor.code, tensor.bits, tensor.lanes = kind
        self.shape = (ctypes.c_int64 * values.ndim)(*values.shape)
        self.strides = (ctypes.c_int64 * values.ndim)(
            *[s // values.itemsize for s in values.strides]
        )
        tensor.shape = self.shape
        tensor.strides = self.strides

    def __dlpack_device__(self):
        return self.device, 0

    def __dlpack__(self, **options):
        if not self.versioned and options:
            raise TypeError("unexpected keyword argument")
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        name = b"dltensor_versioned" if self.versioned else b"dltensor"
        return new(ctypes.addressof(self.managed), name, None)


@pytest.mark.parametrize("versioned", [False, True])
def test_dlpack(versioned):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)[:, :3]
    out = np.zeros((3, 3), np.float32)
    expected = steepest.msign(x)
    result = Exported(out, versioned=versioned)
    assert steepest.msign(Exported(x, versioned=versioned), result) is result
    assert np.array_equal(out, expected)
    assert np.array_equal(steepest.msign(Exported(x)), expected)


def test_dlpack_bf16():
    x = np.arange(12).reshape(3, 4).astype(BF16)
    exported = Exported(x, kind=(4, 16, 1))
    assert steepest.msign(exported).dtype == BF16
    assert np.array_equal(steepest.msign(exported), steepest.msign(x))
    assert steepest.grad_norm([exported, x]) == steepest.grad_norm([x, x])


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "out is read-only", {"flags": 1}),
        (TypeError, "out would be copied", {"flags": 2}),
        (TypeError, "out cannot be read through DLPack: it is on", {"device": 2}),
        (TypeError, "out is of DLPack type (0, 32, 1)", {"kind": (0, 32, 1)}),
        (TypeError, "out is of DLPack type (2, 32, 4)", {"kind": (2, 32, 4)}),
        (TypeError, "out comes with DLPack version 2", {"major": 2}),
    ],
)
def test_dlpack_errors(error, message, options):
    out = np.zeros((2, 2), np.float32)
    with pytest.raises(error) as caught:
        steepest.msign(np.eye(2, dtype=np.float32), Exported(out, **options))
    assert message in str(caught.value)
    assert np.all(out == 0)


class WithInterface:
    def __init__(self, values):
        self.values = values

    @property
    def __array_interface__(self):
        return self.values.__array_interface__


def test_array_interface_and_buffers():
    x = np.array([[3.0, 0], [0, 4]])
    out = np.zeros((2, 2))
    steepest.msign(WithInterface(x), WithInterface(out))
    assert np.all(np.diag(out) > 0.9)
    with pytest.raises(ValueError, match="out is read-only"):
        x.flags.writeable = False
        steepest.msign(out, WithInterface(x))

    grad = array.array("f", [3, 4])
    assert steepest.grad_norm(grad).norm == 5
    assert steepest.grad_norm((ctypes.c_double * 2)(3, 4)).norm == 5
    param = array.array("f", [1, 1])
    rest = [array.array("f", [0, 0]), memoryview(array.array("f", [0, 0]))]
    steepest.adamw_step(param, grad, *rest, step=1, weight_decay=0)
    np.testing.assert_allclose(param, 0.999, rtol=1e-6)


@pytest.mark.parametrize("wrong", [3.0, "text", None, object(), {}, b"bytes", [[1.0]]])
def test_what_is_no_array(wrong):
    with pytest.raises(TypeError, match="values is"):
        steepest.singular_entropy(wrong)


def test_nothing_is_kept():
    import weakref

    class Tracked(np.ndarray):
        pass

    arrays = [np.ones((4, 4)).view(Tracked) for _ in range(4)]
    alive = [weakref.ref(one) for one in arrays]
    steepest.adamw_step(*arrays, step=1)
    steepest.muon_step(*arrays[:3])
    steepest.msign(arrays[0], arrays[1])
    del arrays
    gc.collect()
    assert [one() for one in alive] == [None] * 4


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        x = torch.randn(6, 9).to(dtype)[:, :8]
        out = torch.zeros(6, 8, dtype=dtype)
        assert steepest.msign(x, out, method="svd") is out
        product = out.double() @ out.double().T
        assert torch.allclose(product, torch.eye(6).double(), atol=0.05)
    param = torch.ones(3, 4, requires_grad=True)
    rest = [torch.ones(3, 4) for _ in range(3)]
    with pytest.raises(TypeError, match=r"param .*detach"):
        steepest.adamw_step(param, *rest, step=1)
    steepest.adamw_step(param.detach(), *rest, step=1)
    assert param[0, 0] < 1
    with pytest.raises(TypeError, match="grad"):
        steepest.adamw_step(rest[0], rest[1].int(), rest[2], torch.ones(3, 4), step=1)
    with pytest.raises(TypeError, match="grads"):
        steepest.grad_norm(torch.ones(3, device="meta"))

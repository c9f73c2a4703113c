# SPDX-License-Identifier: Apache-2.0
"""_c.py says what the header says."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from steepest import _c

HEADER = Path(__file__).parents[3] / "include/steepest/steepest.h"


def test_constants():
    names = re.findall(
        r"^#define STEEPEST_(\w+) (\(?(?:UINT64_C\(1\) << )?-?\d+\)?)",
        HEADER.read_text(),
        re.MULTILINE,
    )
    values = {name: eval(text.replace("UINT64_C(1)", "1")) for name, text in names}
    values = {name: value for name, value in values.items() if "VERSION_" not in name}
    assert len(values) > 50
    assert {name: getattr(_c, name, None) for name in values} == values


def test_functions():
    declared = set(re.findall(r"^STEEPEST_API [^(]*?(\w+)\(", HEADER.read_text(), re.MULTILINE))
    with_types = {f"steepest_{name}" for name in _c._FUNCTIONS}
    inits = {f"{name}_init" for name in _c.STRUCTS.values()}
    assert with_types | inits == declared


def test_layout(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    lines = []
    expected = []
    for kind, name in _c.STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        expected.append(f"{name} {ctypes.sizeof(kind)}")
        for field, *_ in kind._fields_:
            place = f"offsetof({name}, {field}), sizeof((({name}*)0)->{field})"
            lines.append(f'printf("{name}.{field} %zu %zu\\n", {place});')
            descriptor = getattr(kind, field)
            expected.append(f"{name}.{field} {descriptor.offset} {descriptor.size}")
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <steepest/steepest.h>\n"
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    program = tmp_path / "layout"
    subprocess.run([compiler, f"-I{HEADER.parents[1]}", source, "-o", program], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == expected


@pytest.mark.parametrize("kind", _c.STRUCTS)
def test_init(kind):
    # The library refuses a struct_size that it does not know, so this compares the whole size.
    assert _c.new(kind).struct_size == ctypes.sizeof(kind)
    assert [item.struct_size for item in _c.new_array(kind, 3)] == [ctypes.sizeof(kind)] * 3


def test_every_status_is_an_exception_of_its_kind():
    from steepest import _errors

    kinds = {
        _c.E_INVALID_ARGUMENT: ValueError,
        _c.E_SHAPE: ValueError,
        _c.E_DTYPE: TypeError,
        _c.E_OUT_OF_MEMORY: MemoryError,
        _c.E_NONFINITE: ArithmeticError,
        _c.E_NOT_CONVERGED: ArithmeticError,
        _c.E_UNSUPPORTED: NotImplementedError,
        _c.E_INTERNAL: RuntimeError,
    }
    assert set(_errors.BY_STATUS) == set(kinds)
    for status, kind in kinds.items():
        with pytest.raises(kind) as caught:
            _c.check(status)
        assert isinstance(caught.value, _errors.SteepestError)
        assert caught.value.status == status

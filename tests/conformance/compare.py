# SPDX-License-Identifier: Apache-2.0
"""Whether cases made anew are those of a file. Names, constants, shapes and types are compared
exactly; inputs to a rounding error, since NumPy's decompositions give other last digits on other
machines; expected values within their stated tolerances, which are compared to a rounding."""

import numpy as np

# Of the largest value in the array; bit patterns are compared as numbers.
INPUT_ERROR = {"F32": 2.0**-22, "F64": 2.0**-48}


def numbers(values):
    return np.array([float(x) for x in values], np.float64)


def near(a, b, tolerance):
    """Elements equal, both NaN, or finite and no further apart."""
    a, b = numbers(a), numbers(b)
    if a.shape != b.shape:
        return False
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return bool(np.all(same | (np.abs(a - b) <= tolerance)))


def ordered(bits):
    """16-bit floating-point numbers as integers in their order."""
    return [-(x & 0x7FFF) if x & 0x8000 else x for x in bits]


def array_differs(kept, made):
    if {k: v for k, v in kept.items() if k != "values"} != {
        k: v for k, v in made.items() if k != "values"
    }:
        return True
    a, b = kept.get("values", []), made.get("values", [])
    if kept["dtype"] in INPUT_ERROR:
        largest = np.max(np.abs(numbers(a)), initial=0.0, where=np.isfinite(numbers(a)))
        return not near(a, b, INPUT_ERROR[kept["dtype"]] * largest)
    if kept["dtype"] in ("BF16", "F16"):
        return not near(ordered(a), ordered(b), 1)
    return a != b


def argument_differs(kept, made):
    """Numbers to a rounding error, also in lists; all else exactly."""
    if isinstance(kept, list) and isinstance(made, list):
        pairs = list(zip(kept, made))
        return len(kept) != len(made) or any(argument_differs(a, b) for a, b in pairs)
    if isinstance(kept, float) and isinstance(made, float):
        return not near([kept], [made], 1e-14 * abs(kept))
    return kept != made or isinstance(kept, bool) != isinstance(made, bool)


def differences(kept, made):
    """What differs between two lists of cases, a line each."""
    names = [case["name"] for case in kept]
    if names != [case["name"] for case in made]:
        return ["the names of the cases, or their order"]
    found = []
    for one, other in zip(kept, made):

        def note(what, name=one["name"]):
            found.append(f"{name}: {what}")

        if one["function"] != other["function"]:
            note("function")
        for part, differs in (("arguments", argument_differs), ("arrays", array_differs)):
            a, b = one.get(part, {}), other.get(part, {})
            if a.keys() != b.keys():
                note(f"names of {part}")
                continue
            for key in a:
                if differs(a[key], b[key]):
                    note(key)
        a, b = one["expected"], other["expected"]
        if a.keys() != b.keys():
            note("names of what is expected")
            continue
        for key in a:
            tolerance = numbers(a[key]["tolerance"])
            if not near(a[key]["values"], b[key]["values"], tolerance):
                note(f"expected {key}")
            if not near(tolerance, b[key]["tolerance"], 0.02 * tolerance):
                note(f"tolerance of {key}")
    return found

"""The tables of the format (appendix G1 to G3)."""

import re

import pytest

from ollamad.gguf import file_type_name, tensor_type_name
from ollamad.gguf.numbers import TENSOR_TYPES

FILE_TYPES = """0 F32 1 F16 2 Q4_0 3 Q4_1 7 Q8_0 8 Q5_0 9 Q5_1 10 Q2_K 11 Q3_K_S 12 Q3_K_M 13 Q3_K_L 14 Q4_K_S
15 Q4_K_M 16 Q5_K_S 17 Q5_K_M 18 Q6_K 19 IQ2_XXS 20 IQ2_XS 21 Q2_K_S 22 IQ3_XS 23 IQ3_XXS 24 IQ1_S 25 IQ4_NL
26 IQ3_S 27 IQ3_M 28 IQ2_S 29 IQ2_M 30 IQ4_XS 31 IQ1_M 32 BF16 36 TQ1_0 37 TQ2_0 38 MXFP4_MOE 39 NVFP4 40 Q1_0"""

TENSOR_NAMES = """0 F32 1 F16 2 Q4_0 3 Q4_1 6 Q5_0 7 Q5_1 8 Q8_0 9 Q8_1 10 Q2_K 11 Q3_K 12 Q4_K 13 Q5_K 14 Q6_K
15 Q8_K 16 IQ2_XXS 17 IQ2_XS 18 IQ3_XXS 19 IQ1_S 20 IQ4_NL 21 IQ3_S 22 IQ2_S 23 IQ4_XS 24 I8 25 I16 26 I32 27 I64
28 F64 29 IQ1_M 30 BF16 34 TQ1_0 35 TQ2_0 39 MXFP4 40 NVFP4 41 Q1_0"""

BLOCKS = """0:1,4 1:1,2 2:32,18 3:32,20 6:32,22 7:32,24 8:32,34 9:32,36 10:256,84 11:256,110 12:256,144 13:256,176
14:256,210 15:256,292 16:256,66 17:256,74 18:256,98 19:256,50 20:32,18 21:256,110 22:256,82 23:256,136 24:1,1
25:1,2 26:1,4 27:1,8 28:1,8 29:256,56 30:1,2"""


def pairs(text: str) -> list[tuple[int, str]]:
    return [(int(number), name) for number, name in re.findall(r"(\d+) ([A-Z]\w+)", text)]


@pytest.mark.parametrize(("number", "name"), [*pairs(FILE_TYPES), *((n, "unknown") for n in (4, 5, 6, 33, 34, 35, 99))])
def test_file_types(number: int, name: str) -> None:
    """G1: a file type has its name; numbers that were given up have none."""
    assert file_type_name(number) == name


@pytest.mark.parametrize(("number", "name"), [*pairs(TENSOR_NAMES), *((n, "unknown") for n in (4, 5, 31, 36, 99))])
def test_tensor_types(number: int, name: str) -> None:
    """G2: a tensor type has its name."""
    assert tensor_type_name(number) == name


@pytest.mark.parametrize("line", BLOCKS.split())
def test_blocks(line: str) -> None:
    """G3: elements and bytes of a block."""
    number, elements, size = (int(part) for part in re.split("[:,]", line))
    assert TENSOR_TYPES[number][1:] == (elements, size)

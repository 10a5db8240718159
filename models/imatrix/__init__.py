"""Importance matrices: how strongly each input column of a weight was excited; llama.cpp's files, read and written.

* `read_imatrix`: a file of llama.cpp's tools or of ours, GGUF or .dat, values read on demand
* `write_imatrix`: sums and counts as llama-imatrix writes them; `remove_leftovers`: what killed writers left of one
* `save_partial`, `read_partial`: the same while they are being collected, in double precision
* `fill`: experts that no token reached get their layer's mean; `merge`: several matrices become one
* `coverage_of`, `statistics_of`: what a matrix tells about its text and its model
"""

from nemotron_gguf.models.imatrix.coverage import Coverage, coverage_of
from nemotron_gguf.models.imatrix.filling import fill
from nemotron_gguf.models.imatrix.matrix import (
    CHUNK_COUNT,
    CHUNK_SIZE,
    COUNTS,
    DATASETS,
    FILLED,
    SUMS,
    Imatrix,
    ImatrixEntry,
    Sums,
)
from nemotron_gguf.models.imatrix.merging import merge
from nemotron_gguf.models.imatrix.partial import Partial, read_partial, save_partial
from nemotron_gguf.models.imatrix.reading import read_imatrix
from nemotron_gguf.models.imatrix.statistics import Statistics, statistics_of
from nemotron_gguf.models.imatrix.writing import remove_leftovers, write_imatrix

__all__ = [
    "CHUNK_COUNT",
    "CHUNK_SIZE",
    "COUNTS",
    "DATASETS",
    "FILLED",
    "SUMS",
    "Coverage",
    "Imatrix",
    "ImatrixEntry",
    "Partial",
    "Statistics",
    "Sums",
    "coverage_of",
    "fill",
    "merge",
    "read_imatrix",
    "read_partial",
    "remove_leftovers",
    "save_partial",
    "statistics_of",
    "write_imatrix",
]

# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `tokenization` that the programs of language/bert import, from transformers.

Upstream's own lies in a submodule (NVIDIA/DeepLearningExamples), and the package of this name on
PyPI is another one. They take three things from it: BasicTokenizer, whitespace_tokenize and
printable_text. The first two are in transformers, in version 5 at another place than in version 4.
"""

from __future__ import annotations

try:
    from transformers.models.bert.tokenization_bert_legacy import (
        BasicTokenizer,
        whitespace_tokenize,
    )
except ImportError:
    from transformers.models.bert.tokenization_bert import BasicTokenizer, whitespace_tokenize

__all__ = ["BasicTokenizer", "printable_text", "whitespace_tokenize"]


def printable_text(text: str) -> str:
    """Return text for a message, as it is: strings hold Unicode."""
    return text

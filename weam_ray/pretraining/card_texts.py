"""What model cards say of each method, and whom they cite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weam_ray.pretraining.config import OBJECTIVES_WITH_LINKS

METHODS = {
    "base": "A masked language model trained or fetched as the common start of a study.",
    "none": "The base as it was: the row of a study without bilingual pre-training.",
    "mlm": "Masked language modelling, continued on the sentences of both languages apart.",
    "tlm": "Translation language modelling: masked tokens of a sentence and its translation, read "
    "as one text, are predicted from both.",
    "weam": "The word-exchange aligning model: tokens are masked and predicted as in translation "
    "language modelling, and predicted once more after the vectors of aligned words have changed "
    "places.",
    "word-aligned": "Vectors of aligned words are drawn together, and those of one language held "
    "near the ones they had.",
    "weam-shuffled-links": "A control of WEAM: its word links are shuffled, so that the exchange "
    "is of words that mean different things.",
    "tlm-shuffled-pairs": "A control of translation language modelling: each sentence stands "
    "beside the translation of another.",
    "tlm-doubled": "A control of WEAM: the loss of translation language modelling counted twice, "
    "without any exchange.",
    "weam-aligned-only": "A variant of WEAM: its second loss is over aligned tokens alone.",
}

_WEAM = """\
@inproceedings{yang2021weam,
  title = {Bilingual Alignment Pre-Training for Zero-Shot Cross-Lingual Transfer},
  author = {Yang, Ziqing and Ma, Wentao and Cui, Yiming and Ye, Jiani and Che, Wanxiang
            and Wang, Shijin},
  booktitle = {Proceedings of the 3rd Workshop on Machine Reading for Question Answering},
  year = {2021},
  note = {arXiv:2106.01732},
}"""
_WORD_ALIGNED = """\
@inproceedings{cao2020multilingual,
  title = {Multilingual Alignment of Contextual Word Representations},
  author = {Cao, Steven and Kitaev, Nikita and Klein, Dan},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
  note = {arXiv:2002.03518},
}"""
_TLM = """\
@inproceedings{conneau2019cross,
  title = {Cross-lingual Language Model Pretraining},
  author = {Conneau, Alexis and Lample, Guillaume},
  booktitle = {Advances in Neural Information Processing Systems 32},
  year = {2019},
  note = {arXiv:1901.07291},
}"""
_MLM = """\
@inproceedings{devlin2019bert,
  title = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Proceedings of NAACL-HLT 2019},
  year = {2019},
  note = {arXiv:1810.04805},
}"""
_ALIGNER = """\
@inproceedings{dyer2013simple,
  title = {A Simple, Fast, and Effective Reparameterization of {IBM} Model 2},
  author = {Dyer, Chris and Chahuneau, Victor and Smith, Noah A.},
  booktitle = {Proceedings of NAACL-HLT 2013},
  year = {2013},
}"""


def citations(settings: Mapping[str, Any]) -> list[str]:
    """BibTeX of what a run of these settings rests on, its own method first."""
    objective = settings.get("objective", "mlm")
    found = []
    if objective.startswith("weam") or objective == "tlm-doubled":
        found.append(_WEAM)
    if objective == "word-aligned":
        found.append(_WORD_ALIGNED)
    if objective.startswith(("weam", "tlm")):
        found.append(_TLM)
    if objective in ("mlm", "none") or settings.get("replay_share"):
        found.append(_MLM)
    if objective in OBJECTIVES_WITH_LINKS:
        found.append(_ALIGNER)
    return found

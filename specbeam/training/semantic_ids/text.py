"""Item embeddings from words: TF-IDF and a truncated SVD (latent semantic analysis).

Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990.
"""

import numpy as np

from specbeam.training.data.dataset import Dataset
from specbeam.training.data.vocabulary import token_names
from specbeam.training.errors import DatasetError
from specbeam.training.semantic_ids.vectors import FloatArray, left_singular

# Scripts without spaces give one token per character, so that word pairs are character pairs
# (kana, Han, Thai, Lao); all others give words of two letters or digits at least.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
TOKEN_PATTERN = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]{{2,}}"
MAX_FEATURES = 2**18
# Below this many documents a word that occurs once is kept: there is little else to go by.
SMALL_CATALOG = 50


def item_documents(dataset: Dataset) -> list[str]:
    """Join the title, text and topics of each item; an item that says nothing gives "".

    A title that is only the item's id says nothing. Some imports have no titles and name items
    and topics after the codes they have now; those words say nothing either.

    Returns:
        N strings.
    """
    items = dataset.items
    codes = [""] * len(items)
    if dataset.has_semantic_ids:
        codes = [token_names(path, dataset.levels) for path in items.paths.tolist()]
    rows = zip(
        items.item_ids, codes, items.titles, items.texts, items.topics, items.paths, strict=True
    )
    documents: list[str] = []
    for item_id, code, title, text, topics, path in rows:
        first = token_names(path[:1].tolist(), dataset.levels[:1])
        parts = [title] if title != item_id and not (code and code in title) else []
        parts += [text, *(topic for topic in topics if topic != first)]
        documents.append(" ".join(part for part in parts if part.strip()))
    return documents


def text_vectors(documents: list[str], dims: int, seed: int) -> FloatArray:
    """Embed documents.

    Words that more than half of the documents hold are dropped, so that no list of stop words (and
    no language) has to be known.

    Args:
        documents: N strings, "" where nothing is known.
        dims: dimensions wanted; fewer where the words span fewer.
        seed: of the randomised SVD.

    Returns:
        Vectors, not normalised; zero where no word of the document is known. Shape (N, d).

    Raises:
        DatasetError: no word is left.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    filled = sum(1 for document in documents if document)
    settings = {
        "sublinear_tf": True,
        "ngram_range": (1, 2),
        "token_pattern": TOKEN_PATTERN,
        "max_features": MAX_FEATURES,
        "dtype": np.float32,
    }
    rare = {"min_df": 1 if filled < SMALL_CATALOG else 2}
    # Where all items share their words (or hardly any word occurs twice) nothing passes the
    # usual limits; then every word counts.
    for limits in ({**rare, "max_df": 0.5}, {"min_df": 1, "max_df": 1.0}):
        try:
            matrix = TfidfVectorizer(**settings, **limits).fit_transform(documents)
        except ValueError:
            continue
        return left_singular(matrix, dims, power=1.0, seed=seed)
    raise DatasetError("item texts", ["no item has a title, text or topic with a word in it"])

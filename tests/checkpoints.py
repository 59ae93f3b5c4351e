"""Checkpoints as other projects leave them, by plain transformers and tokenizers code.

Random weights, a tokenizer trained on a few lines, code tokens added, embeddings resized.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
LINES = (
    "Below is the history of a customer, oldest first.",
    "Items: the red kettle, the blue lamp, the small green chair",
    "Predict the next item of the customer. Next:",
)


def code_tokens(sizes: Sequence[int]) -> list[str]:
    """Return "<a_0>", "<a_1>", ... "<b_0>", ... for levels of the given sizes."""
    return [f"<{'abcdefgh'[level]}_{n}>" for level, size in enumerate(sizes) for n in range(size)]


def qwen_tokenizer(added: Iterable[str], lines: Iterable[str] = LINES) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE without BOS, as Qwen2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.add_tokens(list(added))
    return fast


def llama_tokenizer(added: Iterable[str], lines: Iterable[str] = LINES) -> PreTrainedTokenizerFast:
    """Return a BPE with word-boundary marks and BOS, as Llama's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=160,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=["<", ">"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*lines, "\n"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.add_tokens(list(added))
    return fast


TOKENIZERS = {"qwen2": qwen_tokenizer, "llama": llama_tokenizer}


def save_checkpoint(
    directory: Path,
    family: str,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 32,
) -> Path:
    """Save a random model of a family with its tokenizer, in fp32.

    Args:
        directory: where.
        family: qwen2 or llama.
        tokenizer: gives the vocabulary; saved beside the model.
        seed: of the weights.
        layers: decoder layers.
        hidden: width.
    """
    config_class, model_class = FAMILIES[family]
    config = config_class(
        vocab_size=64,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        # Wide enough that the distributions are far from uniform.
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@contextmanager
def exact_norms() -> Iterator[None]:
    """Compute RMS norms in the type of their input; transformers computes them in fp32."""

    def forward(self: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))

    with ExitStack() as stack:
        for norm in (LlamaRMSNorm, Qwen2RMSNorm):
            stack.enter_context(mock.patch.object(norm, "forward", forward))
        yield

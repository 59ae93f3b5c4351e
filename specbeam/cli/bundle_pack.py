"""`specbeam bundle pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.output import print_json, print_table, progress_console

if TYPE_CHECKING:
    from specbeam.packing.request import PackRequest

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

EXAMPLES = """\b
Examples:
  specbeam bundle pack office.bundle --target sft/checkpoint-900 \\
      --index Office_Products.index.json --items Office_Products.item.json \\
      --tag-field category=categories --tag-field brand --prompt prompt.txt --separator ", "
  specbeam bundle pack beauty.bundle --target atspeed-llama --index beauty.json --id-offset 1
  specbeam bundle pack movies.bundle --target bigrec --titles movies.json --prompt prompt.txt
  specbeam bundle pack new.bundle --target old.bundle/target \\
      --drafter default=old.bundle/drafters/default \\
      --index old.bundle/catalog.parquet --items old.bundle/catalog.parquet \\
      --tag-field topic=topics

--index maps item ids to token names ({"7": ["<a_60>", "<b_159>", "<c_203>"]}) or to
vocabulary ids ({"7": [151703, 152058, 152358]}).  --titles maps them to texts, or to
objects with a title.  --items adds titles, topics, popularity, created_at (Unix seconds
or ISO 8601) and tags.  Files are .json, .jsonl, .csv or .parquet; a list of rows names its
items in item_id.

--prompt is a text file with one {history}, such as "Items: {history}\\nNext:"; the line end
that closes the file is dropped.  Without it a prompt is BOS and the codes of the history."""


@click.command(epilog=EXAMPLES)
@click.argument("bundle_dir", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--target", required=True, type=FOLDER, help="Fine-tuned checkpoint; only read.")
@click.option("--index", type=FILE, help="Item ids and their code tokens.")
@click.option("--titles", type=FILE, help="Item ids and their titles, which are then the items.")
@click.option("--items", type=FILE, help="What else is known about the items.")
@click.option("--tokenizer", type=FOLDER, help="Tokenizer.  [default: the target's own]")
@click.option("--drafter", multiple=True, metavar="NAME=DIR", help="Draft model; repeatable.")
@click.option("--adapter", type=FOLDER, help="LoRA adapter of the target, in peft's layout.")
@click.option("--name", help="Bundle name.  [default: from OUT]")
@click.option("--prompt", type=FILE, help="Text with one {history}.")
@click.option("--separator", default="", help="Text between two items of the history.")
@click.option("--bos/--no-bos", default=None, help="Begin with BOS.  [default: as the tokenizer]")
@click.option(
    "--window", type=click.IntRange(1), default=50, show_default=True, help="Items shown."
)
@click.option(
    "--stride", type=click.IntRange(1), help="Items by which it moves.  [default: 10, or a fifth]"
)
@click.option(
    "--end-token",
    "end_tokens",
    multiple=True,
    metavar="TEXT|ID",
    help="Ends an item; repeat it for several tokens in turn.  [default: EOS for titles]",
)
@click.option(
    "--keep-end-token", "keep_end_tokens", is_flag=True, help="Show end tokens in the history too."
)
@click.option(
    "--title-format", default="{title}", show_default=True, help="How the model writes a title."
)
@click.option(
    "--max-title-tokens",
    type=click.IntRange(1, 63),
    default=63,
    show_default=True,
    help="Longer titles are cut.",
)
@click.option("--id-offset", default=0, help="Added to the numeric item ids of all files.")
@click.option("--id-field", default="item_id", show_default=True, help="Field of the item id.")
@click.option("--title-field", default="title", show_default=True, help="Field of the title.")
@click.option("--topic-field", default="topics", show_default=True, help="Field of the topics.")
@click.option("--tag-field", multiple=True, metavar="[PREFIX=]FIELD", help="Tags; repeatable.")
@click.option(
    "--score-kind",
    type=click.Choice(["VOCAB", "LEVEL", "TRIE"]),
    default="VOCAB",
    show_default=True,
    help="What log-probabilities are normalised over.",
)
@click.option(
    "--beam-width",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Beams when a request does not say.",
)
@click.option(
    "--exclude-history/--no-exclude-history",
    default=True,
    show_default=True,
    help="Leave out items of the history when a request does not say.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is a bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def pack(bundle_dir: Path, as_json: bool, **options: Any) -> int:
    """Make the bundle OUT from a fine-tuned checkpoint and an item index, without training.

    Every problem of an input is reported at once, and nothing is written if there is one.
    """
    request = _request(bundle_dir, options)
    from specbeam.packing.pack import pack_bundle
    from specbeam.training.progress import ConsoleReporter

    with ConsoleReporter(progress_console()) as reporter:
        packed = pack_bundle(request, reporter.update)
    for warning in packed.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        print_json({"bundle": str(bundle_dir), **packed.report})
        return exit_codes.OK
    figures = packed.report["packed"]
    rows = [
        ("model", figures["model_type"]),
        ("parameters", f"{figures['parameters']:,}"),
        ("items", f"{figures['items']:,}"),
        ("items that share a path", f"{figures['items_sharing_a_path']:,}"),
        ("tokens of an item, at most", str(figures["item_length"])),
        *(("codes of level " + lv["name"], f"{lv['codes']:,}") for lv in figures["levels"]),
        ("tags", f"{figures['tags']:,}"),
        ("tokens of a prompt, at most", f"{packed.bundle.max_prompt_tokens:,}"),
    ]
    print_table(f"bundle written: {bundle_dir}", ("", ""), rows)
    return exit_codes.OK


def _request(bundle_dir: Path, options: dict[str, Any]) -> PackRequest:
    """Return the request of some options.

    Raises:
        click.UsageError: options that do not go together.
        ValueError: the prompt file is no text.
    """
    from specbeam.packing.metadata import Fields
    from specbeam.packing.request import PackRequest

    if (options["index"] is None) == (options["titles"] is None):
        raise click.UsageError("items come from --index or from --titles: give one of both")
    fields = Fields(
        item_id=options["id_field"],
        title=options["title_field"],
        topics=options["topic_field"],
        named_tags=tuple(_tag_field(text) for text in options["tag_field"]),
    )
    return PackRequest(
        bundle_dir=bundle_dir,
        target_dir=options["target"],
        index_file=options["index"],
        titles_file=options["titles"],
        items_file=options["items"],
        tokenizer_dir=options["tokenizer"],
        drafters=_drafters(options["drafter"]),
        adapter_dir=options["adapter"],
        name=options["name"],
        prompt=_prompt(options),
        fields=fields,
        id_offset=options["id_offset"],
        end_tokens=options["end_tokens"],
        title_format=options["title_format"],
        max_title_tokens=options["max_title_tokens"],
        score_kind=options["score_kind"],
        beam_width=options["beam_width"],
        exclude_history=options["exclude_history"],
        overwrite=options["overwrite"],
    )


def _prompt(options: dict[str, Any]) -> Any:
    from specbeam.bundle import Window
    from specbeam.packing.request import PromptRequest

    size, file = options["window"], options["prompt"]
    stride = options["stride"] or min(10, max(1, size // 5))
    if stride > size:
        raise click.UsageError("--stride is at most --window")
    try:
        text = None if file is None else file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text file") from error
    return PromptRequest(
        text=text,
        separator=options["separator"],
        bos=options["bos"],
        window=Window(size, stride),
        keep_end_tokens=options["keep_end_tokens"],
    )


def _tag_field(text: str) -> tuple[str, str]:
    """Split "category=categories" into prefix and field; the field alone is its own prefix."""
    prefix, found, field = text.partition("=")
    return (prefix, field) if found else (text, text)


def _drafters(texts: tuple[str, ...]) -> dict[str, Path]:
    drafters: dict[str, Path] = {}
    for text in texts:
        name, found, folder = text.partition("=")
        if not found or not name.isidentifier() or not folder:
            raise click.UsageError(f"--drafter takes NAME=DIR, not {text!r}")
        if name in drafters:
            raise click.UsageError(f"--drafter {name} is given twice")
        drafters[name] = Path(folder)
    return drafters

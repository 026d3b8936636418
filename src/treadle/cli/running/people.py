"""Options of commands that let people talk: scripts and recordings in place of providers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import typer

from treadle.config import TreadleConfig
from treadle.errors import InvalidInput, did_you_mean

ScriptOption = Annotated[Path | None, typer.Option(
    "--script", metavar="FILE", show_default=False,
    help="What persons say instead of their models: YAML or JSON, {person: [answers]}, or Python with a "
         "function for each.")]
RecordOption = Annotated[Path | None, typer.Option(
    "--record", metavar="DIR", show_default=False,
    help="Write each call of a model into DIR, as a file that --replay reads.")]
ReplayOption = Annotated[Path | None, typer.Option(
    "--replay", metavar="DIR", show_default=False,
    help="Take the answers of models from DIR, and ask no provider.")]

TokensOption = Annotated[int | None, typer.Option(
    "--llm-tokens-max", metavar="N", min=1, show_default=False,
    help="How many tokens the models of the execution may take. [default: no limit]")]


class Options(TypedDict):
    """What `Engine.open` is told of them."""

    script: dict[str, Any] | None
    record: Path | None
    replay: Path | None


class People(NamedTuple):
    """The options: for the engine, and as words for a command that goes on with the execution."""

    options: Options
    words: tuple[str, ...]
    tokens_max: int | None = None

    def limits(self, config: TreadleConfig) -> TreadleConfig:
        """A configuration with the limit that was said."""
        if self.tokens_max is None:
            return config
        return msgspec.structs.replace(config, llm_tokens_max=self.tokens_max)


NOBODY = People({"script": None, "record": None, "replay": None}, ())


def people(script: Path | None, record: Path | None, replay: Path | None, *,
           tokens_max: int | None = None) -> People:
    """What the options say. InvalidInput, InvalidDiagram, OSError."""
    if record is not None and replay is not None:
        raise InvalidInput("--record and --replay exclude each other: record calls first, then replay them")
    if record is not None and record.exists() and not record.is_dir():
        raise InvalidInput(f"--record: {record} is a file, and must be a folder")
    if replay is not None and not replay.is_dir():
        near = did_you_mean(replay.name, [one.name for one in replay.absolute().parent.glob("*")])
        raise InvalidInput(f"--replay: there is no folder {str(replay)!r}"
                           + (f": {near}" if near else "; --record makes one"))
    scripts = None
    if script is not None:
        from treadle.nodes.people.offline.standins import read_script

        try:
            scripts = read_script(script)
        except OSError as error:
            near = did_you_mean(script.name, [one.name for one in script.absolute().parent.glob("*")])
            raise InvalidInput(f"--script: {script} can't be read: {error.strerror or error}"
                               + (f" ({near})" if near else "")) from None
    said = (("--script", script), ("--record", record), ("--replay", replay),
            ("--llm-tokens-max", tokens_max))
    words = tuple(word for name, value in said if value is not None for word in (name, str(value)))
    return People({"script": scripts, "record": record, "replay": replay}, words, tokens_max)

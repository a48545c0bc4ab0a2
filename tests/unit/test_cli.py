"""The command line: help that leads, completion, and progress that suits where it is shown."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from floodline import progress
from floodline.cli import app
from floodline.progress import Meter

FLOODLINE = Path(sys.executable).with_name("floodline")
LOOP = """
import logging, sys
from floodline.progress import Meter
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
with Meter("dig", 3, "holes") as meter:
    for _ in range(3):
        meter.advance(note="deep")
"""


def printed(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [FLOODLINE, *arguments], env=os.environ | {"COLUMNS": "200"} | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def completed(line: str) -> set[str]:
    """What the Tab key offers in bash at the end of a line."""
    words = line.split(" ")
    offered = printed(_FLOODLINE_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    return set(offered.split())


def test_help_leads_through_the_work_and_lists_every_command():
    text = printed("--help")
    # In the order in which they are needed.
    places = [
        text.index(word) for word in ("doctor says", "info what", "new writes", "snakemake --profile", "Look: view")
    ]
    assert places == sorted(places)
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert re.search(rf"│ {name} +{re.escape(command.get_short_help_str(60).rstrip('.')[:40])}", text), name


def test_the_time_left_is_reckoned_from_what_this_run_did(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    Meter("dig", 10, "holes", seconds_between_lines=5).advance(5, before=4.5, under_way=0.5)
    assert caplog.messages == ["dig: 5 of 10 holes, 10 s passed, 45 s left"], "one hole in ten seconds, 4.5 are missing"


def test_the_time_left_is_reckoned_from_the_work_that_is_left(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    first_five_are_small = {1: 1, 2: 2, 4: 4, 10: 25}.__getitem__
    Meter("dig", 10, "holes", seconds_between_lines=5, work=first_five_are_small).advance(4, before=2)
    assert caplog.messages == ["dig: 4 of 10 holes, 10 s passed, 105 s left"], "two took ten seconds, 21 are left"


@pytest.mark.parametrize(
    ("seconds", "of_one", "says"),
    [
        (60, 0.001, "60 s passed, too early to say how much is left"),
        (60, 0.02, "60 s passed, 49 min left"),
        (3600, 0.3, "60 min passed, 2 h 20 min left"),
        (864_000, 0.5, "240 h 00 min passed, 240 h 00 min left"),
    ],
)
def test_the_time_left_is_told_in_hours_and_not_guessed_from_next_to_nothing(
    seconds, of_one, says, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    now = iter([0.0, seconds, seconds])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    Meter("dig", 1, "holes").advance(0, under_way=of_one)
    assert caplog.messages == [f"dig: 0 of 1 holes, {says}"]


@pytest.mark.parametrize("command", get_command(app).commands)  # type: ignore[attr-defined]
def test_every_argument_of_every_command_is_explained(command):
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        assert parameter.help, f"{command}: {parameter.name}"


def test_the_tab_key_knows_commands_and_steps():
    assert completed("floodline pu") == {"publish"}
    assert completed("floodline ") == set(get_command(app).commands)  # type: ignore[attr-defined]
    assert {"meshes", "connectome", "handover"} <= completed("floodline publish results/demo ")
    assert completed("floodline view --al") == {"--allow-origin"}


def test_a_log_gets_lines_and_no_bar():
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True)
    assert done.stdout == ""
    assert re.fullmatch(r"dig: 3 of 3 holes, 0 s passed, 0 s left, deep\n", done.stderr)


def test_a_terminal_gets_a_bar():
    reader, writer = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", LOOP], stderr=writer, env=os.environ | {"TERM": "xterm"}) as process:
        process.wait()
    os.close(writer)
    shown = b""
    try:
        while piece := os.read(reader, 65536):
            shown += piece
    # The end of a terminal that its writer has left.
    except OSError:
        pass
    os.close(reader)
    text = shown.decode()
    assert "3/3" in text
    assert "dig deep" in text
    assert "holes" not in text

"""Takes the fenced blocks of Markdown pages in order, runs them, and keeps a log."""

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT = 7860  # gradio takes the next one if a program has it; the README's blocks ask this one
# As in an interactive session: the value of an expression is shown.
PASTE = """
import ast, sys
for statement in ast.parse(sys.stdin.read()).body:
    exec(compile(ast.Interactive([statement]), "README.md", "single"))
"""


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Language and text of the fenced bash and python blocks of a Markdown page."""
    return re.findall(r"^```(bash|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


class Walker:
    """Runs blocks in a folder. `environment` is what the processes get; tests may change it."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self.folder = folder
        self.environment = environment
        self.log = log
        self.remaining = blocks_of((folder / "README.md").read_text(encoding="utf-8"))
        self.n_processes = 0

    def note(self, text: str) -> None:
        """Write a line into the log, and for `pytest -s` on the screen."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
        print(text, flush=True)

    def take(self, pattern: str) -> tuple[str, str]:
        """The README's next block, which must fit a regular expression."""
        assert self.remaining, f"README.md has no block left; expected: {pattern}"
        language, text = self.remaining.pop(0)
        assert re.search(pattern, text, re.MULTILINE), (
            f"README.md's next block is\n{text}not: {pattern}"
        )
        return language, text

    def take_from(self, page: str, pattern: str) -> tuple[str, str]:
        """The one block of another page that fits a regular expression."""
        blocks = blocks_of((self.folder / page).read_text(encoding="utf-8"))
        (block,) = [block for block in blocks if re.search(pattern, block[1], re.MULTILINE)]
        return block

    def run(self, language: str, text: str) -> str:
        """Run a block to its end; returns what it printed. Fails unless it exits with 0."""
        started, cpu_before = time.monotonic(), _cpu_seconds()
        process, output = self._start(language, text)
        try:
            process.wait(None if self.environment["WALK_STEPS"] == "0" else 1800)
        finally:
            _kill_group(process)
        printed = output.read_text(encoding="utf-8", errors="replace")
        self.note(
            f"    {time.monotonic() - started:.1f} s, {_cpu_seconds() - cpu_before:.1f} s of CPU, "
            f"exit code {process.returncode}"
        )
        assert process.returncode == 0, f"{text}\n{printed[-5000:]}"
        assert "Traceback" not in printed, printed[-5000:]
        return printed

    @contextmanager
    def serve(self, language: str, text: str) -> Iterator[str]:
        """Run a server during the context, then stop it by Ctrl-C; yields what it printed."""
        started = time.monotonic()
        process, output = self._start(language, text)
        try:
            while f":{PORT}" not in (printed := self._address_from(process, output)):
                assert time.monotonic() - started < 600, f"Port {PORT} is taken: free it. {printed}"
                _kill_group(process)
                time.sleep(2)
                process, output = self._start(language, text)
            self.note(f"    ready after {time.monotonic() - started:.1f} s")
            yield printed
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
            printed = output.read_text(errors="replace")
            assert "Traceback" not in printed, printed[-5000:]
        finally:
            _kill_group(process)

    def _address_from(self, process: subprocess.Popen, output: Path, timeout: float = 300) -> str:
        """What a server has printed when its address is among it."""
        deadline = time.monotonic() + timeout
        while "http://127.0.0.1:" not in (printed := output.read_text(errors="replace")):
            assert process.poll() is None, printed[-5000:]
            assert time.monotonic() < deadline, printed[-5000:]
            time.sleep(0.2)
        return printed

    def _start(self, language: str, text: str) -> tuple[subprocess.Popen, Path]:
        prompt = ">>>" if language == "python" else "$"
        self.note("\n" + "\n".join(f"{prompt} {line}".strip() for line in text.splitlines()))
        if "bin/activate" in text:
            self.activate()
        self.n_processes += 1
        output = self.log.with_name(f"output-{self.n_processes:02}.txt")
        # For Ctrl-C: children of what runs in the background would ignore it.
        command = ["env", "--default-signal=INT"]
        command += ["python", "-c", PASTE] if language == "python" else ["bash", "-euo", "pipefail"]
        # Both read the block from a file, so that nothing of it has to be quoted.
        source = self.log.with_name(f"block-{self.n_processes:02}.txt")
        source.write_text(text, encoding="utf-8")
        if language == "bash":
            command.append(str(source))
        with output.open("wb") as out, source.open("rb") as stdin:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=stdin if language == "python" else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, output

    def activate(self) -> None:
        """What `source .venv/bin/activate` does to the shell in which all blocks are pasted."""
        path = f"{self.folder / '.venv' / 'bin'}{os.pathsep}"
        if not self.environment["PATH"].startswith(path):
            self.environment["PATH"] = path + self.environment["PATH"]


def _cpu_seconds() -> float:
    """Of all processes that have ended: on a busy machine, the better measure of a block's cost."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _kill_group(process: subprocess.Popen) -> None:
    """End a block with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(10)

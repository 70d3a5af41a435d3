"""What the command line prints, and its exit codes: one line is one line, whatever stands in a file's name, on any terminal."""

from __future__ import annotations

import _thread
import contextlib
import shlex
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import typer

from ..errors import Error, StoreError, UsageError

DEFECT = 70
NAME = "salientry"


def shown(text: str) -> str:
    """Text in which nothing moves the cursor, ends a line or changes a colour: what cannot be printed is escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def program() -> str:
    """How this program was called, to be called so again: its name where the shell finds it by that, else the file; as a module, so."""
    called = Path(sys.argv[0])
    if called.resolve() == Path(__file__).resolve().parents[1] / "__main__.py":
        python = "python" if shutil.which("python") == sys.executable else shlex.quote(sys.executable)
        return f"{python} -m {NAME}"
    if called.name != NAME:
        return NAME
    found = shutil.which(NAME)
    return NAME if found is not None and Path(found).resolve() == called.resolve() else shlex.quote(str(called))


def print_line(text: str, err: bool = False) -> None:
    """Print one line."""
    typer.echo(shown(text), err=err)


def warn(message: object) -> None:
    """Print a warning as one line."""
    print_line(f"warning: {' '.join(str(message).splitlines())}", err=True)


def print_anything() -> None:
    """Let the streams escape what their encoding does not have, where they would fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def needs_pandas() -> Iterator[None]:
    """What imports the report: where pandas is not installed, an error says what to install."""
    try:
        yield
    except ModuleNotFoundError as e:
        if e.name != "pandas":
            raise
        raise UsageError("the tables of a report need pandas, which is not installed: pip install 'salientry[report]'") from None


@contextlib.contextmanager
def _interrupts_come_through() -> Iterator[None]:
    """Python prints and drops an interrupt that meets a callback (of a weak reference, while a module is imported): it comes again."""
    before = sys.unraisablehook

    def again(dropped: sys.UnraisableHookArgs) -> None:
        if dropped.exc_type is KeyboardInterrupt:
            timer = threading.Timer(0.05, _thread.interrupt_main)
            timer.daemon = True
            timer.start()
        else:
            before(dropped)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def guarded(debug: bool, error_code: int | None = None) -> Iterator[None]:
    """A command's work: an error becomes one line and an exit code; so do interrupts and a full disk."""
    try:
        with _interrupts_come_through(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: warn(message)
            yield
    except (BrokenPipeError, typer.Exit):
        raise  # whoever read our lines has seen enough; or the command says how it ended
    except Exception as e:
        if debug:
            raise
        text, found = error_text(e)
        say_error(text)
        raise typer.Exit(error_code or found) from None
    except KeyboardInterrupt:
        exec("")  # CPython: an interrupt inside exec("...") (a dataclass being made) ends the process by the signal, though it was caught
        typer.echo("interrupted: complete results are kept; the same command continues from there", err=True)
        raise typer.Exit(130) from None


def say_error(text: str) -> None:
    """Print an error as one line."""
    print_line(f"error: {' '.join(text.splitlines())}", err=True)


def error_text(e: Exception) -> tuple[str, int]:
    """What to say of an error, and its exit code."""
    if isinstance(e, Error):
        return " ".join([str(e), *(f"({note})" for note in getattr(e, "__notes__", []))]), e.exit_code
    if isinstance(e, OSError):
        return f"{e.strerror or e}: {e.filename or ''} (complete results are kept)", StoreError.exit_code
    return f"{type(e).__name__}: {e} (a bug in salientry; complete results are kept; --debug shows the traceback)", DEFECT


__all__ = ["error_text", "guarded", "print_anything", "print_line", "program", "say_error", "shown", "warn"]

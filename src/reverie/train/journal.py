"""The journal of a run: one line of JSON for each interval, ``metrics.jsonl``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.errors import ReverieError
from reverie.files import cannot_write, to_json, write_all, write_atomic


class Journal:
    """Lines that are appended while a run goes on, and cut back when it resumes from an earlier step.

    A line counts once its newline is written; what a killed writer left after the last newline is no line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line, handed to the system at once; numbers that are not finite become null.

        Raises:
            ReverieError: for a full disk or a read-only folder; the lines before stay as they are.
        """
        line = to_json(dict(record))
        try:
            with self.path.open("ab", buffering=0) as file:
                whole = len(self._whole())
                if file.tell() != whole:
                    file.truncate(whole)
                try:
                    write_all(file.fileno(), line)
                except BaseException:
                    with contextlib.suppress(OSError):
                        file.truncate(whole)
                    raise
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def read(self) -> list[dict[str, Any]]:
        """Return the records, none where there is no file.

        Raises:
            ReverieError: when a line other than a torn last one is damaged.
        """
        return [self._parse(number, line) for number, line in enumerate(self._lines(), 1)]

    def cut(self, step: int) -> None:
        """Drop the lines past `step` and a torn last one; the file is replaced atomically, and only if it changes."""
        kept = [line for n, line in enumerate(self._lines(), 1) if self._parse(n, line).get("step", step) <= step]
        data = b"".join(kept)
        if data != self._bytes():
            write_atomic(self.path, data)

    def _bytes(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ReverieError(f"{self.path}: cannot be read ({error.strerror or error})") from error

    def _whole(self) -> bytes:
        data = self._bytes()
        return data[: data.rfind(b"\n") + 1]

    def _lines(self) -> list[bytes]:
        return [line + b"\n" for line in self._whole().split(b"\n")[:-1]]

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("step", 0), int):
            raise ReverieError(f"{self.path}: line {number} is damaged; delete that line")
        return record

"""A text file that grows line by line and is whole again after a disk was full."""

from pathlib import Path

from eqcrl.files import write_atomically


class Appended:
    """What was written whole is never lost; what was written in part is cut off by the next line."""

    def __init__(self, path: Path, text: str):
        """A new file with this text, in place of an older one. Raises: RunError."""
        self.path = path
        write_atomically(path, text)
        self.whole = len(text.encode())
        """Bytes of complete lines."""

    def add(self, text: str) -> None:
        """Append. Raises: OSError."""
        data = text.encode()
        with self.path.open("r+b") as file:
            file.truncate(self.whole)
            file.seek(self.whole)
            file.write(data)
        self.whole += len(data)

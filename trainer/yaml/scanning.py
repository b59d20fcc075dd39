"""What may a token of YAML be, so that no file takes longer to scan than to read?"""

from __future__ import annotations

from typing import Any, Final

from ruamel.yaml.scanner import Scanner, ScannerError

_LONGEST_TAG: Final = 200
"""Tags are refused anyway; the library decodes them character by character, which takes minutes."""


class Scanning(Scanner):
    """The library's scanner, without tokens that it takes minutes over."""

    def scan_tag(self) -> Any:
        """A tag, unless it is a page long."""
        token = super().scan_tag()
        if len(token.value[1]) > _LONGEST_TAG:
            why = (
                f"`!` begins a tag of more than {_LONGEST_TAG} characters, and tags are not allowed"
            )
            mark = token.start_mark
            raise ScannerError("while scanning a tag", mark, f"{why}: put the text in quotes", mark)
        return token

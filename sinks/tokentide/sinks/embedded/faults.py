"""What goes wrong in a request, with ClickHouse's code, text and HTTP status."""

import re

__all__ = ["Fault"]

_CODE = re.compile(r"Code: (\d+)\. ")
# An error that one stage of the engine hands to the next is wrapped into its own words again.
_WRAPPED = re.compile(r"(?<=DB::Exception: )Code: \d+\. DB::Exception: | \(version [\d.]+\)\. \(\w+\)")
_ENGINE_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)\s*$")

_STATUS = {
    **dict.fromkeys((36, 427, 6, 25, 26, 38, 41, 72, 27, 376, 441, 675, 676), 400),
    **dict.fromkeys((8, 15, 37, 44, 53, 62, 117, 123, 167, 168, 223, 321), 400),
    **dict.fromkeys((60, 46, 47, 50, 56, 81, 115, 63, 73, 336, 78, 511), 404),
    **dict.fromkeys((192, 193, 497, 516), 403),
    48: 501,
    194: 401,
    159: 408,
    209: 503,
    381: 411,
    439: 503,
}


class Fault(Exception):
    """One refused or failed statement.

    `text` is what a ClickHouse server writes, `Code: N. DB::Exception: ... (NAME)`; `status` is the HTTP
    status that a ClickHouse server answers for this code.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @classmethod
    def new(cls, code: int, name: str, message: str) -> "Fault":
        """A fault that the server itself finds, before the engine sees the statement."""
        return cls(code, f"Code: {code}. DB::Exception: {message} ({name})")

    @classmethod
    def of_engine(cls, error: Exception) -> "Fault":
        """The fault inside an error of chDB, without chDB's own words around it."""
        message = str(error)
        found = _CODE.search(message)
        if found is None:
            return cls.new(1002, "UNKNOWN_EXCEPTION", message)
        return cls(int(found[1]), _WRAPPED.sub("", _ENGINE_VERSION.sub("", message[found.start() :])))

    @property
    def status(self) -> int:
        """The HTTP status of this fault, 500 for every code that has none of its own."""
        return _STATUS.get(self.code, 500)

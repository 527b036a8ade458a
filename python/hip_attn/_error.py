"""The exception of the package."""


class Error(RuntimeError):
    """What the library refuses. str() is its message, which names the argument and what it takes.

    status: the name of the status code, such as "InvalidShape" (hip_attn/c/status.h).
    """

    status: str

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type["Error"], tuple[str, str]]:
        return Error, (self.status, str(self))

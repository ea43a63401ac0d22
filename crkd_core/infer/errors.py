"""What goes wrong when a network is to be run."""


class InferError(RuntimeError):
    """A device, an engine, a precision or a Frame that the detector cannot use."""


class EngineError(InferError):
    """A network that cannot be exported, a file or an engine that cannot be used, or too much."""


def one_line(error: BaseException) -> str:
    """What an engine says, without its line breaks."""
    return " ".join(str(error).split())

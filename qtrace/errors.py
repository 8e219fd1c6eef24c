"""The errors that a user can meet: what happened, what to do about it, and the exit status.

    QtraceError                      exit status 2
    ├── UsageError                   the command line contradicts itself
    ├── TargetError                  no such script or process, not executable
    ├── RecordingError               not a recording, a newer one, damaged beyond reading
    ├── OutputExistsError            would overwrite
    ├── PermissionRefusedError       the system forbids it: which setting, how to lift it
    ├── UnsupportedMachineError      another architecture or system
    └── EngineError                  the chosen engine cannot be used here

Whatever else reaches the top of the command line is a bug, and shows its traceback.
"""

from __future__ import annotations


class QtraceError(Exception):
    """Something that a user can understand and mend."""

    def __init__(self, message: str, help_text: str = "", exit_code: int = 2) -> None:
        """Say what happened.

        Args:
            message: One sentence, without a full stop at the end.
            help_text: What to do about it, with the exact command where there is one.
            exit_code: The command line's exit status.
        """
        super().__init__(message)
        self.message = message
        self.help_text = help_text
        self.exit_code = exit_code


class UsageError(QtraceError):
    """The command line contradicts itself or lacks something."""


class TargetError(QtraceError):
    """The program or process cannot be started or found."""


class RecordingError(QtraceError):
    """The file is no recording, or one that this version cannot read."""


class OutputExistsError(QtraceError):
    """The output exists and was not to be overwritten."""


class PermissionRefusedError(QtraceError):
    """The system forbids what was asked; the help text names the setting and how to lift it."""


class UnsupportedMachineError(QtraceError):
    """qtrace does not know this architecture or operating system."""


class EngineError(QtraceError):
    """The chosen engine cannot be used here."""

"""The public Python API: record, load, explain and report. It introduces the rooms to each other.

Nothing here prints. Heavy packages are imported inside the function that needs them, so that
importing this module, and explaining, stay quick.
"""

from __future__ import annotations

"""The vocabulary that every room shares: ids, system calls, kinds, records, snapshots, verdicts.

Standard library only, no input or output, and cheap to import: the command line and a live
explanation start with it.
"""

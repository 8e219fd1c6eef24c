"""`python -m qtrace`: the same as the command `qtrace`."""

from qtrace.cli.app import main

if __name__ == "__main__":
    main()

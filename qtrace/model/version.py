"""qtrace's version: written here, for looking it up in the installed package takes a tenth of a second."""

VERSION = "0.1.0"
